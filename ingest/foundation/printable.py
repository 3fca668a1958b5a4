"""Texts of strangers on a terminal: what controls it, or forges a line, is left out. Pure."""

from __future__ import annotations

_REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    """Return a text of several lines without characters that a terminal obeys, or that change the order of others."""
    return "".join(each if each.isprintable() or each in "\n\t" else _REPLACEMENT for each in text)


def one_line(text: str) -> str:
    """Return a text as one line, without such characters."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else " " if each.isspace() else _REPLACEMENT for each in text)
