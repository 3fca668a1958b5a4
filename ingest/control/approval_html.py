"""The pages on which a person decides about what an agent asks for. Pure.

What is asked for may hold what an invitee typed: it is shown as text and nothing else. What a reader would not see, or
would see in another order, is written out.
"""

from __future__ import annotations

import json
import unicodedata
from urllib.parse import urlsplit

from slotwire.ingest.control.approval_links import PAGE, LinkedApproval, LinkProblem
from slotwire.ingest.control.page_frame import PageWords, page, safe

_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Unicode's categories of characters that are not seen, or that change the order of others."""


_PROBLEMS = {
    LinkProblem.UNKNOWN: PageWords(
        404,
        "This link is not known",
        "Either it is not complete, or another one took its place, or what it was for has ended without a decision.",
    ),
    LinkProblem.OVER: PageWords(404, "The time for this decision is over", "The agent has gone on without it."),
    LinkProblem.DECIDED: PageWords(409, "This was decided before", "A decision stays. Nothing was changed now."),
    LinkProblem.ANOTHER: PageWords(
        409, "This is about something else", "Open the link again, and decide what it says."
    ),
}


def ask_page(asked: LinkedApproval, ticket: str, integrator: str, base: str) -> str:
    """Show who asks whom for what and until when, with two buttons."""
    facts = {
        "Asked": asked.person,
        "By the agent": asked.agent,
        "For the organization": asked.org,
        "About": asked.name,
        "Until": f"{asked.until:%Y-%m-%d %H:%M} UTC",
        "Digest": asked.digest.hex(),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{safe(visible(value))}</dd>" for name, value in facts.items())
    who = f"<b>{safe(integrator)}</b>" if integrator else "An agent"
    body = (
        f"<p>{who} asks you to decide. Nothing happens until you press a button.</p><dl>{listed}</dl>"
        f"<p>This is what you decide about, as the agent wrote it:</p><pre>{safe(visible(indented(asked.what)))}</pre>"
        f'<form method="post" action="{safe(urlsplit(base).path + PAGE)}">'
        f'<input type="hidden" name="ticket" value="{safe(ticket)}">'
        f'<input type="hidden" name="digest" value="{asked.digest.hex()}">'
        '<button type="submit" name="decision" value="approve" id="approve">Approve</button>'
        '<button type="submit" name="decision" value="deny" id="deny">Deny</button></form>'
    )
    return page("Your decision is asked for", body)


def decided_page(*, approved: bool) -> str:
    """Say what was decided."""
    return page("Approved" if approved else "Denied", "<p>The agent goes on with it. You can close this page.</p>")


def link_problem_page(problem: LinkProblem) -> tuple[int, str]:
    """Say why nothing was decided; return the status too."""
    words = _PROBLEMS[problem]
    return words.status, page(words.title, f"<p>{words.text}</p>")


def indented(what: str) -> str:
    """Write JSON over several lines, if that says the same; else as it is."""
    try:
        told = json.loads(what)
        compact = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return what
    return json.dumps(told, ensure_ascii=False, indent=2) if compact == what else what


def visible(text: str) -> str:
    r"""Write out what a reader would not see: U+202E as `\u202e`. Line ends stay."""
    return "".join(
        character if character == "\n" or unicodedata.category(character) not in _HIDDEN else f"\\u{ord(character):04x}"
        for character in text
    )
