"""Translates an error answer of Calendly into our error. Pure.

The status decides. Calendly's words only distinguish the two kinds of 403, because its pages and clients disagree
about titles. Source: docs/reference/calendly.md, "Webhook subscriptions" (status table) and "REST", errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from slotwire.ingest.errors import CalendlyError, CalendlyProblem, PlanMissing, ScopeMissing

M = TypeVar("M", bound=BaseModel)

DEFAULT_WAIT_SECONDS = 60.0
"""How long to wait if a 429 does not say: Calendly counts requests by the minute."""
MAX_WAIT_SECONDS = 3_600.0
"""A longer wait is taken for a mistake and shortened to this."""
MAX_SCOPES = 50
"""The most scopes read from a refusal; Calendly has about thirty."""
MAX_TEXT = 300
"""The most characters of Calendly's own words in a message."""

_CHECK_ADDRESS = "Check that SLOTWIRE_CALENDLY__API_URL is Calendly's address."
_ADDRESS = re.compile(r"\w+://\S+")
_MAIL = re.compile(r"\S+@\S+")


class _Detail(BaseModel):
    model_config = ConfigDict(extra="ignore")

    parameter: str | None = None
    message: str = ""


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")

    title: str = ""
    message: str = ""
    details: list[_Detail] | None = None
    required_scopes: list[str] | None = None


class _Kind(NamedTuple):
    problem: CalendlyProblem
    means: str
    remedy: str


_KINDS = {
    400: _Kind(
        CalendlyProblem.INVALID,
        "Calendly refused the values",
        "Check the values and the token's scopes: Calendly answers the same if a read scope is missing.",
    ),
    401: _Kind(
        CalendlyProblem.CREDENTIAL,
        "Calendly did not accept the token",
        "Create a new token in Calendly (Integrations, API and webhooks) and use that.",
    ),
    403: _Kind(
        CalendlyProblem.PERMISSION,
        "the token's user may not do this",
        "Calls for a whole organization need a token of its owner or an admin.",
    ),
    404: _Kind(
        CalendlyProblem.NOT_FOUND, "Calendly does not have it", "Check the identifier; it may have been deleted."
    ),
    409: _Kind(CalendlyProblem.CONFLICT, "it exists already", "List the existing ones, and use or delete it."),
}
_PLANS = ("enterprise", "teams", "standard", "professional", "paid")
"""Plans in Calendly's words, as its refusals name them."""
_UNDOCUMENTED = _Kind(CalendlyProblem.UNEXPECTED, "Calendly gave an answer that it does not document", _CHECK_ADDRESS)


def read_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    doing: str,
    plan: str | None = None,
    longest_wait: float = MAX_WAIT_SECONDS,
) -> CalendlyError:
    """Make the error for an answer that is not 2xx, with what to do about it.

    Args:
        status: the HTTP status.
        headers: its headers, looked up by lower-case name.
        body: its body; may be HTML from a proxy in front of Calendly.
        doing: what was attempted, such as `reading the token's user`; begins the message.
        plan: that the operation needs as it is documented; None where no plan is.
        longest_wait: the longest that a 429 to it is believed to ask for, in seconds.
    """
    try:
        answer = _Body.model_validate_json(body)
    except ValidationError:
        answer = None
    if status == 429:
        return _limited(headers, doing, longest_wait)
    if status >= 500 or status == 424:
        return _error(CalendlyProblem.UPSTREAM, status, f"{doing}: Calendly failed with {status}", "Try again later.")
    if answer is None:
        # Without Calendly's body not even a 404 is trusted: a wrong address must not look like a deletion.
        return _not_json(status, doing)
    if answer.required_scopes is not None:
        scopes = tuple(plain(scope) for scope in answer.required_scopes[:MAX_SCOPES])
        needs = ", ".join(scopes) or "Calendly does not name them"
        return ScopeMissing(f"{doing}: the token lacks scopes; it needs: {needs}", status=status, scopes=scopes)
    return _by_status(status, answer, doing, plan)


def _by_status(status: int, answer: _Body, doing: str, plan: str | None) -> CalendlyError:
    kind = _KINDS.get(status, _UNDOCUMENTED)
    if status == 403 and "upgrade" in (told := answer.message.lower()):
        said = next((each for each in _PLANS if each in told), plan)
        message = f"{doing}: the organization's plan does not include this ({status}): {plain(answer.message)}"
        return PlanMissing(message, status=status, plan=said)
    details = "; ".join(f"{plain(item.parameter or 'request')}: {plain(item.message)}" for item in answer.details or ())
    words = plain(answer.message or answer.title)
    message = f"{doing}: {kind.means} ({status})"
    message += f": {words}" if words else ""
    message += f" ({details[:MAX_TEXT]})" if details else ""
    return _error(kind.problem, status, message, kind.remedy)


def wait_of(headers: Mapping[str, str], *, most: float = MAX_WAIT_SECONDS) -> float:
    """Return the seconds that a 429 asks to wait; `DEFAULT_WAIT_SECONDS` where it does not say. 0 is at once.

    Args:
        headers: of the answer.
        most: a longer wait is taken for a mistake and shortened to this.
    """
    for name in ("retry-after", "x-ratelimit-reset"):
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, most)
    return DEFAULT_WAIT_SECONDS


def _limited(headers: Mapping[str, str], doing: str, longest_wait: float) -> CalendlyError:
    wait = wait_of(headers, most=longest_wait)
    return CalendlyError(
        f"{doing}: too many requests at Calendly",
        problem=CalendlyProblem.LIMITED,
        status=429,
        wait=wait,
        remedy=f"Wait {wait:.0f} s, then try again.",
    )


def _not_json(status: int, doing: str) -> CalendlyError:
    if 300 <= status < 400:
        return _error(CalendlyProblem.UNEXPECTED, status, f"{doing}: redirected ({status})", _CHECK_ADDRESS)
    return _error(
        CalendlyProblem.UPSTREAM,
        status,
        f"{doing}: refused with {status} by a server that is not Calendly's API, perhaps a proxy",
        f"Try again later. {_CHECK_ADDRESS}",
    )


def _error(problem: CalendlyProblem, status: int | None, message: str, remedy: str) -> CalendlyError:
    return CalendlyError(message, problem=problem, status=status, remedy=remedy)


def plain(text: str) -> str:
    """Make Calendly's words safe for a message: one line, bounded, without URLs or mail addresses."""
    bare = _MAIL.sub("…", _ADDRESS.sub("…", text))
    return " ".join("".join(c if c.isprintable() else " " for c in bare).split())[:MAX_TEXT]


def unanswered(doing: str, error: Exception, setting: str, *, sent: bool = True) -> CalendlyError:
    """Make the error for a call that got no answer; if it was sent, what it asked for may have happened."""
    # The exception's text may contain the address; its class says enough.
    return CalendlyError(
        f"{doing}: no answer from Calendly ({type(error).__name__})",
        problem=CalendlyProblem.UNREACHABLE,
        remedy=f"Check the network, and {setting}.",
        sent=sent,
    )


def too_late(doing: str) -> CalendlyError:
    """Make the error for a call that was not made, because its time had passed before its turn came."""
    return CalendlyError(
        f"{doing}: not called, because its turn came too late",
        problem=CalendlyProblem.UNREACHABLE,
        remedy="It is tried again.",
        sent=False,
    )


def read_answer(body: bytes, answer: type[M], doing: str) -> M:
    """Read an answer of a documented form.

    Raises:
        CalendlyError: it has another one (`unexpected`).
    """
    try:
        return answer.model_validate_json(body)
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=False)
        places = ", ".join(".".join(map(str, issue["loc"])) or "body" for issue in issues[:3])
        raise CalendlyError(
            f"{doing}: the answer does not have the documented form, at: {places}",
            problem=CalendlyProblem.UNEXPECTED,
            remedy="Check that SLOTWIRE_CALENDLY__API_URL is Calendly's address.",
        ) from None


def read_any(received: bytes, doing: str) -> object:
    """Read an answer of any form: JSON, a text, or None for an empty one.

    Raises:
        CalendlyError: a page of a website answered (`unexpected`).
    """
    if not received.strip():
        return None
    try:
        return orjson.loads(received)
    except orjson.JSONDecodeError:
        pass
    text = received.decode(errors="replace")  # a recap's transcript is a plain text
    if text.lstrip().startswith("<"):
        raise CalendlyError(
            f"{doing}: a website answered in Calendly's place",
            problem=CalendlyProblem.UNEXPECTED,
            remedy="Check that SLOTWIRE_CALENDLY__API_URL is Calendly's address.",
        )
    return text
