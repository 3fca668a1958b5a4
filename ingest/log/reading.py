"""Reads JSON, also where a reader could refuse it though it says what was meant. Pure.

Two things are repaired, and counted as drift of their fields: half a character, which has no UTF-8, becomes U+FFFD; a
number that no double holds, such as 1e400, becomes its text. RFC 8259 allows both (sections 8.2 and 6), and lets a
reader refuse them.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

import orjson

from slotwire.ingest.errors import CannotNormalize
from slotwire.ingest.log.drift import Repairs, VastNumber
from slotwire.ingest.log.parts import MAX_DEPTH, count_brackets

_DIGITS = 19
"""Digits and sign of a whole number that is read exactly; a longer one is a double, as the quick reader has it."""
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""An escape of JSON: a pair of surrogates, half of one (the group), or any other."""


def read_json(body: bytes) -> tuple[object, Repairs]:
    """Read JSON.

    Returns:
        What it says, and what in it had to be replaced.

    Raises:
        CannotNormalize: `invalid_utf8`, `not_json` or `too_deep`.
    """
    repairs = Repairs()
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed, repairs = _repaired(body)
    if count_brackets(body) > MAX_DEPTH and _depth_exceeds(parsed, MAX_DEPTH):
        raise CannotNormalize("too_deep")
    return parsed, repairs


def _repaired(body: bytes) -> tuple[object, Repairs]:
    try:
        body.decode()
    except UnicodeDecodeError:
        raise CannotNormalize("invalid_utf8") from None
    whole = _with_whole_characters(body)
    halves = whole != body
    try:
        return orjson.loads(whole), Repairs(halves=halves)
    except orjson.JSONDecodeError:
        pass
    try:
        parsed = json.loads(whole.decode(), parse_float=_double, parse_int=_whole_number, parse_constant=_refuse)
    except ValueError:
        raise CannotNormalize("not_json") from None
    except RecursionError:
        raise CannotNormalize("too_deep") from None
    return parsed, Repairs(halves=halves, numbers=True)


def _double(text: str) -> float | VastNumber:
    number = float(text)
    return number if math.isfinite(number) else VastNumber(text)


def _whole_number(text: str) -> int | float | VastNumber:
    return int(text) if len(text) <= _DIGITS else _double(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def _with_whole_characters(body: bytes) -> bytes:
    """Replace each half of a character by U+FFFD: a text that was cut within an emoji ends in one.

    Such a half has no UTF-8, so it can be neither read nor written as it came (RFC 8259, section 8.2).
    """
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)


def _depth_exceeds(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        deeper: list[object] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
        if not deeper:
            return False
        level = deeper
    return any(isinstance(item, dict | list) for item in level)
