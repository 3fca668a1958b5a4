"""The pages a customer sees while they connect: plain HTML, no script, nothing loaded from anywhere. Pure."""

from __future__ import annotations

import base64
import hashlib
import html
from typing import NamedTuple
from urllib.parse import urlsplit

from slotwire.ingest.control.connect_links import START, ConnectLink
from slotwire.ingest.control.oauth_flow import FlowProblem, Live

_STYLE = (
    "body{font:17px/1.5 system-ui,sans-serif;max-width:34em;margin:3em auto;padding:0 1em;color:#1c1c1c}"
    "h1{font-size:1.4em}button{font:inherit;padding:.6em 1.4em;border:0;background:#1a5fb4;color:#fff}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
    "<style>{style}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
)


class _Words(NamedTuple):
    status: int
    title: str
    text: str


_PROBLEMS = {
    FlowProblem.LINK_UNKNOWN: _Words(404, "This link is not known", "Ask {who} for a new one."),
    FlowProblem.LINK_ENDED: _Words(404, "This link is over", "Ask {who} for a new one."),
    FlowProblem.LINK_SPENT: _Words(
        409, "This link was used already", "If you did not use it yourself, tell {who}. Nothing was changed now."
    ),
    FlowProblem.NOT_THIS_BROWSER: _Words(
        400,
        "This browser did not begin this connection",
        "Open the link you got, and finish in the same browser within 15 minutes. Nothing was changed.",
    ),
    FlowProblem.MIXED_UP: _Words(
        400, "This answer comes from the wrong place", "Nothing was changed. Open the link you got again."
    ),
    FlowProblem.DENIED: _Words(
        200,
        "Not connected",
        "You did not allow it, and nothing was changed. The link still works if you change your mind.",
    ),
    FlowProblem.CODE_REFUSED: _Words(
        400, "Calendly did not accept this answer", "It was used before, or is too old. Open the link you got again."
    ),
    FlowProblem.ANOTHER_ORGANIZATION: _Words(
        403,
        "This is another Calendly organization",
        "You are logged in at Calendly in another organization than this link is for. Nothing was connected.",
    ),
    FlowProblem.ANOTHER_NAME: _Words(
        409,
        "This Calendly organization is connected already",
        "It is known to {who} as another customer. Nothing was changed. Tell {who}.",
    ),
    FlowProblem.ADMIN_MISSING: _Words(
        403,
        "An owner or admin is needed",
        "Your Calendly user may not connect the whole organization. Ask an owner or admin of it to open the same link.",
    ),
    FlowProblem.SCOPE_MISSING: _Words(
        403,
        "Something was not allowed",
        "Calendly did not get all permissions. Open the link again, and allow them all.",
    ),
    FlowProblem.CALENDLY_FAILED: _Words(
        502, "Calendly does not answer", "Nothing was connected. Open the link again in some minutes."
    ),
}


def start_page(link: ConnectLink, ticket: str, integrator: str, base: str) -> str:
    """Name who asks and for whom, with a button that goes on to Calendly."""
    path = urlsplit(base).path
    body = (
        f"<p><b>{_safe(integrator)}</b> asks to connect the Calendly organization of <b>{_safe(link.named)}</b>.</p>"
        "<p>It will see who books, moves and cancels meetings in that organization. At Calendly, log in as an owner or"
        " admin of it. If you do not know who asks, or are not this customer, close this page.</p>"
        f'<form method="post" action="{_safe(path + START)}">'
        f'<input type="hidden" name="ticket" value="{_safe(ticket)}">'
        '<button type="submit" id="connect">Go on to Calendly</button></form>'
    )
    return _page(f"Connect Calendly to {_safe(integrator)}", body)


def live_page(live: Live, integrator: str) -> str:
    """Say what is connected now."""
    lines = [f"Calendly is connected to <b>{_safe(integrator)}</b> for <b>{_safe(live.link.named)}</b>."]
    if live.subscribed:
        lines.append("New bookings arrive from now on.")
    else:
        lines.append("Calendly has not confirmed the subscription yet; it is tried again by itself.")
    if live.backfill:
        lines.append("Meetings that were booked before are being fetched.")
    lines.append("You can close this page.")
    return _page("Connected", "".join(f"<p>{line}</p>" for line in lines))


def problem_page(problem: FlowProblem, integrator: str) -> tuple[int, str]:
    """Say why it did not go on, and what to do; return the status too."""
    words = _PROBLEMS[problem]
    text = words.text.format(who=_safe(integrator))
    return words.status, _page(words.title, f"<p>{text}</p>")


def failed_page() -> str:
    """Say that it is our side that failed."""
    return _page("Something failed on our side", "<p>Open the link again in some minutes.</p>")


def plain_page(title: str) -> str:
    """Say one thing."""
    return _page(_safe(title), "")


def headers(auth_url: str) -> dict[str, str]:
    """Return the headers of every page: nothing is stored, told to other sites, framed or loaded."""
    url = urlsplit(auth_url)
    # A browser applies form-action to redirects too: the consent page, and the pages for logging in.
    targets = f"'self' {url.scheme}://{url.netloc}"
    if (url.hostname or "").endswith("calendly.com"):
        targets += " https://calendly.com https://*.calendly.com"
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


def _page(title: str, body: str) -> str:
    return _PAGE.format(style=_STYLE, title=title, body=body)


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
