"""What all pages for a person's browser share: plain HTML, no script, nothing loaded from anywhere. Pure."""

from __future__ import annotations

import base64
import hashlib
import html
from typing import NamedTuple

_STYLE = (
    "body{font:17px/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em;color:#1c1c1c}"
    "h1{font-size:1.4em}button{font:inherit;padding:.6em 1.4em;margin-right:1em;border:0;background:#1a5fb4;color:#fff}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f2f2f2;padding:1em}dd{overflow-wrap:anywhere}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
    "<style>{style}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
)


class PageWords(NamedTuple):
    """What a page says that is not the expected one."""

    status: int
    title: str
    text: str


def page(title: str, body: str) -> str:
    """Put a title and a body, both HTML, into the frame."""
    return _PAGE.format(style=_STYLE, title=title, body=body)


def safe(text: str) -> str:
    """Write a text that anybody may have chosen as HTML."""
    return html.escape(text, quote=True)


def failed_page() -> str:
    """Say that it is our side that failed."""
    return page("Something failed on our side", "<p>Open the link again in some minutes.</p>")


def plain_page(title: str) -> str:
    """Say one thing."""
    return page(safe(title), "")


def page_headers(*form_targets: str) -> dict[str, str]:
    """Return the headers of a page: nothing is stored, told to other sites, framed or loaded.

    Args:
        form_targets: where its forms may lead, besides to itself.
    """
    targets = " ".join(("'self'", *form_targets))
    return {
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action {targets}; base-uri 'none';"
            " frame-ancestors 'none'"
        ),
    }
