"""How much there is in a body, counted before anything is made of it. Pure.

The cost of a delivery, and what its events grow to, depend on how many values its body has: 1 MiB of `[{},{},…]` would
be 350,000 objects, each written with all its fields. At the limit a body costs the writer up to 20 ms of CPU; 10,000
values cost up to 50, and a tenant who sent 40 such bodies a second delayed the events of others by 100 ms instead of 7
(`python -m tests.bench --only neighbours`). Counting takes a few milliseconds at the most, whatever is sent.
"""

from __future__ import annotations

import re

MAX_PARTS = 4_000
"""Values a body may hold; the richest documented payload has some 200. One that holds more is quarantined."""
MAX_DEPTH = 64
"""Levels of nesting in a body; the deepest documented payload has seven."""
STEP_PARTS = 8_000
"""Values in the bodies of one append beside the oldest one: forty times the richest documented payload."""

_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_QUOTES = 4
"""Quotes that go with one value at the most: those of its name, and its own."""


def count_parts(body: bytes) -> int:
    """Count the values of a JSON body by what opens and separates them outside of its texts.

    Returns:
        The number; of a body that has more than `MAX_PARTS` perhaps a smaller one, which is more than that, too.
    """
    quotes = body.count(b'"') - body.count(b'\\"')
    if quotes > _QUOTES * (MAX_PARTS + 1):
        return quotes // _QUOTES
    found = _opened(body)
    return found if found <= MAX_PARTS else _opened(_TEXT.sub(b"", body))


def count_brackets(body: bytes) -> int:
    """Count opening brackets: a body with at most `MAX_DEPTH` of them is not too deep, so real ones are not walked."""
    return body.count(b"{") + body.count(b"[")


def _opened(body: bytes) -> int:
    return body.count(b",") + count_brackets(body)
