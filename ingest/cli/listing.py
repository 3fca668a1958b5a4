"""How commands print: aligned columns for people, JSON lines for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import typer

from slotwire.ingest.foundation.printable import one_line

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")
_FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Characters with which a spreadsheet lets a formula begin, of either width."""
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


def print_csv(items: Sequence[BaseModel], form: type[BaseModel]) -> None:
    """Print items as CSV with a heading, one column for each field; no cell is a formula to a spreadsheet."""
    import csv
    import sys

    import orjson

    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    writer.writerow(form.model_fields)
    for item in items:
        fields: dict[str, object] = orjson.loads(json_line(item))
        writer.writerow(csv_cell(value) for value in fields.values())


def csv_cell(value: object) -> object:
    """Write one value for a spreadsheet: what it would take for a formula gets an apostrophe before it."""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if isinstance(value, str) and (value.lstrip().startswith(_FORMULAS) or value != value.lstrip()):
        return f"'{value}"
    return value


def json_line(item: BaseModel) -> str:
    """Write one model as one line of JSON."""
    from slotwire.ingest.operate.models import encode

    return encode(item).decode()


def cell(value: object) -> str:
    """Write one value for a person, on one line: it may be a text of strangers."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    return one_line(str(value))
