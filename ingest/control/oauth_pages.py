"""The pages a customer sees while they connect. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from slotwire.ingest.control.connect_links import START, ConnectLink
from slotwire.ingest.control.oauth_flow import FlowProblem, Live
from slotwire.ingest.control.page_frame import PageWords, page, page_headers, safe

_PROBLEMS = {
    FlowProblem.LINK_UNKNOWN: PageWords(404, "This link is not known", "Ask {who} for a new one."),
    FlowProblem.LINK_ENDED: PageWords(404, "This link is over", "Ask {who} for a new one."),
    FlowProblem.LINK_SPENT: PageWords(
        409, "This link was used already", "If you did not use it yourself, tell {who}. Nothing was changed now."
    ),
    FlowProblem.LINK_BUSY: PageWords(
        409,
        "This link is being used",
        "Somebody is connecting with it, or could not finish. Open it again in some minutes.",
    ),
    FlowProblem.NOT_THIS_BROWSER: PageWords(
        400,
        "This browser did not begin this connection",
        "Open the link you got, and finish in the same browser within 15 minutes. Nothing was changed.",
    ),
    FlowProblem.MIXED_UP: PageWords(
        400, "This answer comes from the wrong place", "Nothing was changed. Open the link you got again."
    ),
    FlowProblem.DENIED: PageWords(
        200,
        "Not connected",
        "You did not allow it, and nothing was changed. The link still works if you change your mind.",
    ),
    FlowProblem.CODE_REFUSED: PageWords(
        400, "Calendly did not accept this answer", "It was used before, or is too old. Open the link you got again."
    ),
    FlowProblem.ANOTHER_ORGANIZATION: PageWords(
        403,
        "This is another Calendly organization",
        "You are logged in at Calendly in another organization than this link is for. Nothing was connected.",
    ),
    FlowProblem.ANOTHER_NAME: PageWords(
        409,
        "This Calendly organization is connected already",
        "It is known to {who} as another customer. Nothing was changed. Tell {who}.",
    ),
    FlowProblem.ADMIN_MISSING: PageWords(
        403,
        "An owner or admin is needed",
        "Your Calendly user may not connect the whole organization. Ask an owner or admin of it to open the same link.",
    ),
    FlowProblem.SCOPE_MISSING: PageWords(
        403,
        "Something was not allowed",
        "Calendly did not get all permissions. Open the link again, and allow them all.",
    ),
    FlowProblem.CALENDLY_FAILED: PageWords(
        502, "Calendly does not answer", "Nothing was connected. Open the link again in some minutes."
    ),
    FlowProblem.NOT_KEPT: PageWords(
        503,
        "Something failed on our side",
        "You allowed it, and we could not store that: it is given back to Calendly by itself. Open the link again in"
        " some minutes. If the page then says that it was used already, you are connected.",
    ),
}


def start_page(link: ConnectLink, ticket: str, integrator: str, base: str) -> str:
    """Name who asks and for whom, with a button that goes on to Calendly."""
    path = urlsplit(base).path
    body = (
        f"<p><b>{safe(integrator)}</b> asks to connect the Calendly organization of <b>{safe(link.named)}</b>.</p>"
        "<p>It will see who books, moves and cancels meetings in that organization. At Calendly, log in as an owner or"
        " admin of it. If you do not know who asks, or are not this customer, close this page.</p>"
        f'<form method="post" action="{safe(path + START)}">'
        f'<input type="hidden" name="ticket" value="{safe(ticket)}">'
        '<button type="submit" id="connect">Go on to Calendly</button></form>'
    )
    return page(f"Connect Calendly to {safe(integrator)}", body)


def live_page(live: Live, integrator: str) -> str:
    """Say what is connected now."""
    lines = [f"Calendly is connected to <b>{safe(integrator)}</b> for <b>{safe(live.link.named)}</b>."]
    if live.subscribed:
        lines.append("New bookings arrive from now on.")
    else:
        lines.append("Calendly has not confirmed the subscription yet; it is tried again by itself.")
    if live.backfill:
        lines.append("Meetings that were booked before are being fetched.")
    lines.append("You can close this page.")
    return page("Connected", "".join(f"<p>{line}</p>" for line in lines))


def problem_page(problem: FlowProblem, integrator: str) -> tuple[int, str]:
    """Say why it did not go on, and what to do; return the status too."""
    words = _PROBLEMS[problem]
    text = words.text.format(who=safe(integrator))
    return words.status, page(words.title, f"<p>{text}</p>")


def headers(auth_url: str) -> dict[str, str]:
    """Return the headers of every page; the button leads to Calendly."""
    url = urlsplit(auth_url)
    # A browser applies form-action to redirects too: the consent page, and the pages for logging in.
    targets = [f"{url.scheme}://{url.netloc}"]
    if (url.hostname or "").endswith("calendly.com"):
        targets += ["https://calendly.com", "https://*.calendly.com"]
    return page_headers(*targets)
