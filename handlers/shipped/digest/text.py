"""Shows a digest's page as plain text: a stranger's words are between quotation marks that they cannot close. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from slotwire.handlers.shipped.digest.page import DigestPage, PageRow, PageSection, Piece, Typed
from slotwire.handlers.shipped.digest.words import quoted

_LEAD = 16
"""Characters of the first column."""


def text_of(page: DigestPage) -> str:
    """Show a page."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: DigestPage) -> Iterator[str]:
    yield page.heading
    if page.host:
        yield _line(page.host)
    yield page.zone
    for section in page.sections:
        yield ""
        yield section.title
        yield "-" * len(section.title)
        yield from _rows(section)


def _rows(section: PageSection) -> Iterator[str]:
    for row in section.rows:
        yield from _row(row)
    if section.rest:
        yield section.rest


def _row(row: PageRow) -> Iterator[str]:
    yield f"{row.lead:<{_LEAD}} {_line(row.about)}"
    for line in row.more:
        yield f"{'':<{_LEAD}} {_line(line)}"


def _line(pieces: tuple[Piece, ...]) -> str:
    return "".join(quoted(each.text, len(each.text), absent="") if isinstance(each, Typed) else each for each in pieces)
