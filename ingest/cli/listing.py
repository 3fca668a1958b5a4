"""How commands print: aligned columns for people, JSON lines for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")
Columns = Mapping[str, Callable[[T], object]]


def print_items(items: Sequence[T], columns: Columns[T], *, as_json: bool, nothing: str) -> None:
    """Print items.

    Args:
        items: what to print, one line each.
        columns: by heading, what to print of an item.
        as_json: print one JSON object per line instead.
        nothing: the message on stderr when there are no items.
    """
    if as_json:
        for item in items:
            typer.echo(json_line(item))
        return
    if not items:
        typer.echo(nothing, err=True)
        return
    rows = [list(columns), *([cell(read(item)) for read in columns.values()] for item in items)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def json_line(item: BaseModel) -> str:
    """Write one model as one line of JSON."""
    from slotwire.ingest.operate.models import encode

    return encode(item).decode()


def cell(value: object) -> str:
    """Write one value for a person."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    return str(value)
