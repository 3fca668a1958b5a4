"""What strangers typed, made harmless for a page or a mail. Pure.

An invitee's name, address and reason are an attacker's text. Here they lose everything that is not a visible character
or a single space, so that no one of them can begin a line, turn the direction of what follows, hide a part of itself,
or flood a page. Where it goes decides what else it needs: quotation marks in text, escapes in HTML.
"""

from __future__ import annotations

import unicodedata

MAX_MARKS = 2
"""Accents in a row on one character; more are left out."""
_SPACES = frozenset({"Zs", "Zl", "Zp", "Cc"})
"""Categories of characters that become a space: spaces, ends of lines and paragraphs, controls."""
_GONE = frozenset({"Cf", "Cs", "Co", "Cn"})
"""Categories that are left out: invisible formats (directions, joiners, tags), halves of characters, unassigned."""
_QUOTES = str.maketrans(dict.fromkeys('"“”„‟«»', "'"))


def visible(text: str | None, most: int) -> str:
    """Return a stranger's text in one line of visible characters, at most `most` of them.

    Args:
        text: what was typed; None is empty.
        most: a longer text is cut, and ends in `…`.
    """
    # What is far too long is cut first, so that a megabyte of accents costs nothing.
    normal = unicodedata.normalize("NFC", (text or "")[: 20 * most])
    made: list[str] = []
    marks = 0
    for character in normal:
        category = unicodedata.category(character)
        if category in _GONE:
            continue
        if category in _SPACES:
            character = " "  # noqa: PLW2901 - what the reader sees in its place
        marks = marks + 1 if category[0] == "M" else 0
        if marks <= MAX_MARKS:
            made.append(character)
    whole = " ".join("".join(made).split())
    return whole if len(whole) <= most else f"{whole[: most - 1].rstrip()}…"


def quoted(text: str | None, most: int, *, absent: str) -> str:
    """Return a stranger's text between quotation marks that it cannot close; `absent` where nothing visible is left."""
    shown = visible(text, most).translate(_QUOTES)
    return f"“{shown}”" if shown else absent
