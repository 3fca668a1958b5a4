"""Shows a digest's page as an HTML document for a mail: everything inline, nothing fetched, no link, no script. Pure.

A stranger's words are escaped, and isolated (`<bdi>`), so that their direction does not turn what is beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from slotwire.handlers.shipped.digest.page import DigestPage, PageRow, PageSection, Piece, Typed

_FONT = "font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
_BODY = f"margin:0;padding:24px 12px;background:#f3f4f6;color:#1f2937;font-size:15px;line-height:1.45;{_FONT}"
_CARD = "width:100%;max-width:640px;margin:0 auto;background:#ffffff;border:1px solid #e5e7eb;border-radius:10px"
_HEAD = "padding:22px 26px 4px"
_TITLE = "margin:0;font-size:21px;font-weight:600"
_QUIET = "color:#6b7280;font-size:13px"
_SECTION = "padding:16px 26px 4px"
_SUBTITLE = "margin:0 0 6px;font-size:15px;font-weight:600;color:#2563eb"
_LEAD = "width:130px;padding:7px 12px 7px 0;border-top:1px solid #f0f1f3;vertical-align:top;white-space:nowrap"
_ABOUT = "padding:7px 0;border-top:1px solid #f0f1f3;vertical-align:top;overflow-wrap:anywhere"


def html_of(page: DigestPage) -> str:
    """Show a page."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: DigestPage) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(page.subject)}</title>\n</head>"
    yield f'<body style="{_BODY}">\n<table role="presentation" cellspacing="0" style="{_CARD}">'
    yield f'<tr><td style="{_HEAD}"><h1 style="{_TITLE}">{escape(page.heading)}</h1>'
    about = f"{_shown(page.host)}<br>" if page.host else ""
    yield f'<div style="{_QUIET}">{about}{escape(page.zone)}</div></td></tr>'
    for section in page.sections:
        yield from _section(section)
    yield f'<tr><td style="{_SECTION}"></td></tr>\n</table>\n</body>\n</html>'


def _section(section: PageSection) -> Iterator[str]:
    yield f'<tr><td style="{_SECTION}"><h2 style="{_SUBTITLE}">{escape(section.title)}</h2>'
    yield '<table cellspacing="0" style="width:100%;border-collapse:collapse">'
    yield from map(_row, section.rows)
    yield "</table>"
    if section.rest:
        yield f'<div style="{_QUIET}">{escape(section.rest)}</div>'
    yield "</td></tr>"


def _row(row: PageRow) -> str:
    more = "".join(f'<div style="{_QUIET}">{_shown(line)}</div>' for line in row.more)
    return f'<tr><td style="{_LEAD}">{escape(row.lead)}</td><td style="{_ABOUT}">{_shown(row.about)}{more}</td></tr>'


def _shown(pieces: tuple[Piece, ...]) -> str:
    return "".join(f"<bdi>{escape(each.text)}</bdi>" if isinstance(each, Typed) else escape(each) for each in pieces)
