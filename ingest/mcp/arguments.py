"""Pure: arguments of a call as everything behind them can take them: JSON can say more than Postgres and Calendly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 20
"""How deep lists and objects are; no tool takes more than three."""
MAX_WHOLE = 2**63 - 1
"""The largest whole number either way."""
ODD = "a half of a character, or a null character"


class ArgumentsRefused(Exception):
    """Arguments that no tool takes. The text says where and why."""


def readable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with whole numbers as such: `5.0` is 5 in JSON.

    Raises:
        ArgumentsRefused: a text that is none, a number out of bounds, or too deep.
    """
    found: dict[str, Any] = _read(arguments, 0)
    return found


def _read(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ArgumentsRefused(f"the arguments are deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_text(name): _read(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_read(each, depth + 1) for each in value]
    if isinstance(value, str):
        return _text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _number(value) if is_number else value


def _text(text: str) -> str:
    if "\0" in text or any("\ud800" <= each <= "\udfff" for each in text):
        raise ArgumentsRefused(f"a text has {ODD}")
    return text


def _number(value: float) -> float:
    if not math.isfinite(value) or abs(value) > MAX_WHOLE:
        raise ArgumentsRefused("a number is too large")
    whole = int(value)
    return whole if whole == value else value
