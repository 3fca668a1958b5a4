"""One call of an action at Calendly, made once, and what is known of it then.

A call whose answer is lost may have had its effect; it is never made again by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from slotwire.ingest.control.actions.intents import booking_body, tagged
from slotwire.ingest.control.actions.records import ActionRecord, shortened
from slotwire.ingest.control.actions.settlement import Effect
from slotwire.ingest.control.calendly_client import invitee_no_shows
from slotwire.ingest.control.calendly_client.invitees import InviteeResource
from slotwire.ingest.control.calendly_client.resources import ResourceAnswer, path_to
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, SlotwireError

ANSWER_SECONDS = 20.0
"""How long one call may take."""
RETRIES = CallRetries(attempts=1, answer_seconds=ANSWER_SECONDS)
"""None: whether to call again is decided by what is seen, not by the transport."""
_REFUSED = frozenset(
    {
        CalendlyProblem.INVALID,
        CalendlyProblem.CREDENTIAL,
        CalendlyProblem.SCOPE,
        CalendlyProblem.PLAN,
        CalendlyProblem.PERMISSION,
        CalendlyProblem.NOT_FOUND,
        CalendlyProblem.CONFLICT,
    }
)
"""Answers of Calendly's own that say that nothing was done."""


@dataclass(frozen=True, slots=True)
class CallRefused:
    """Calendly answered that it does not do this."""

    reason: str


@dataclass(frozen=True, slots=True)
class CallNotSent:
    """No octet has left, or Calendly wants fewer calls: it certainly had no effect.

    Attributes:
        wait: of a limit, how long to wait before the next, in seconds; None where no limit is known to be the cause.
        refused: Calendly said so; else our own count of the limit.
    """

    reason: str
    wait: float | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class CallLost:
    """It may have had its effect."""

    reason: str


CallOutcome: TypeAlias = Effect | CallRefused | CallNotSent | CallLost


async def make_call(calendly: CalendlyTransport, record: ActionRecord, *, not_after: float) -> CallOutcome:
    """Make the call of an action's step, unless its time is over.

    Args:
        calendly: as whom.
        record: the action; its intent is committed.
        not_after: a time of the event loop from which on it is not made.
    """
    before, calendly.not_after = calendly.calls, not_after
    try:
        return await _called(calendly, record)
    except CalendlyError as error:
        if calendly.calls == before or not error.sent or error.problem is CalendlyProblem.LIMITED:
            return not_sent(error)
        if error.problem in _REFUSED and error.status is not None:
            return CallRefused(shortened(error.message))
        return CallLost(shortened(error.message))
    except SlotwireError as error:  # Postgres, before the call or after it
        if calendly.calls == before:
            return CallNotSent(shortened(error.message))
        return CallLost(shortened(error.message))
    finally:
        calendly.not_after = None


def not_sent(error: CalendlyError) -> CallNotSent:
    """Say why a call was not made, and how long a limit holds it back, if that is why."""
    limited = error.problem is CalendlyProblem.LIMITED
    return CallNotSent(shortened(error.message), error.wait if limited else None, refused=error.status is not None)


async def _called(calendly: CalendlyTransport, record: ActionRecord) -> Effect:
    match record.step:
        case "book" | "restore":
            booking = record.booking
            given = {} if booking.tracking is None else booking.tracking.model_dump()
            tracking, _ = tagged(given, record.booking_tag)
            made = await calendly.post(
                "/invitees", booking_body(booking, tracking), ResourceAnswer[InviteeResource], doing="booking a slot"
            )
            return Effect("done", "answer", made.resource.uri, made.resource.event)
        case "cancel":
            path = f"{path_to('scheduled_events', record.meeting)}/cancellation"
            reason = getattr(record.intent, "reason", None)
            body = {} if reason is None else {"reason": reason}
            await calendly.exchange("POST", path, doing="canceling a scheduled event", body=body)
            return Effect("done", "answer", scheduled_event=record.meeting)
        case "mark":
            mark = await invitee_no_shows.create(calendly, record.target)
            return Effect("done", "answer", invitee=record.target, mark=mark.uri)
        case "clear":
            path = path_to("invitee_no_shows", record.target)
            await calendly.delete(path, doing="clearing a no-show")
            return Effect("done", "answer", mark=record.target)
    raise AssertionError  # pragma: no cover - the steps above are all there are
