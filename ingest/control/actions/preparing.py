"""What is looked at before an intent is committed: what can be refused beforehand is refused, and nothing is stored.

cancel       a meeting with more than one active invitee, without `everyone`: Calendly cancels all of them. Looked at
             again before a call that is made later
reschedule   the same for the old meeting; an invitee who is not active; slots that overlap, without `may_lose_slot`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from pydantic import ValidationError

from slotwire.ingest.control.actions.intents import (
    TRACKING,
    YEARS,
    BookedAnswer,
    BookedLocation,
    BookedTracking,
    BookIntent,
    CancelIntent,
    Intent,
    RescheduleIntent,
    moment,
    tag_for,
    tagged,
    target_of,
)
from slotwire.ingest.control.actions.records import ActionRecord, NewAction, shortened
from slotwire.ingest.control.actions.settlement import StepName
from slotwire.ingest.control.calendly_client import event_types, invitees, scheduled_events
from slotwire.ingest.control.calendly_client.invitees import InviteeResource
from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventResource
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.calendly_client.uses import Behalf
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import ordered_id
from slotwire.ingest.receive.accept import AcceptRow, move_row
from slotwire.schemas.ids import person_digest

KINDS: Mapping[str, str] = {"zoom": "zoom_conference", "gotomeeting": "gotomeeting_conference"}
"""How event types call the locations that meetings call otherwise."""
MAX_REQUEST = 120_000
"""Octets of what is kept of an action until it is over; the table takes a little more."""
ASKED = frozenset({"outbound_call", "ask_invitee"})
"""Locations that the invitee gives."""
_AGENT = "agent "
"""Begins the caller of an agent's actions; no other caller begins so."""
_MCP = "mcp "
"""Begins the caller of the actions of an agent of MCP."""
_STEPS: Mapping[str, StepName] = {"book": "book", "cancel": "cancel", "mark_no_show": "mark", "clear_no_show": "clear"}


@dataclass(frozen=True, slots=True)
class AskedAction:
    """What a caller asks for.

    Attributes:
        caller: as the audit names them.
        key: the caller's idempotency key.
        connection: as whom; None for the organization's best.
        retry_not_seen: call again where an earlier call was not seen.
    """

    org: str
    caller: str
    key: str
    intent: Intent = field(repr=False)
    connection: UUID | None = None
    retry_not_seen: bool = False


def agent_caller(agent: str) -> str:
    """Return how an agent is called as the caller of an action."""
    return f"{_AGENT}{agent}"


def agent_key(agent: str, event_id: UUID, name: str) -> str:
    """Return the key of an agent's action: one for the agent, the event it handles and its own name for it."""
    return f"{agent}:{event_id}:{name}"


def behalf_of(caller: str, key: str) -> Behalf:
    """Say on whose behalf an action is done: an agent's key names its event."""
    if caller.startswith(_MCP):
        return Behalf(caller, caller.removeprefix(_MCP))
    if not caller.startswith(_AGENT):
        return Behalf(caller)
    agent = caller.removeprefix(_AGENT)
    return Behalf(caller, agent, UUID(key.removeprefix(f"{agent}:")[:36]))


async def prepare(
    calendly: CalendlyTransport,
    asked: AskedAction,
    connection: ConnectionRecord,
    mark: bytes,
    *,
    now: datetime,
    tags: bool,
    forgotten: bool,
) -> tuple[NewAction, AcceptRow | None]:
    """Look at what is to be changed, and make the intent, with what the writer is told of a reschedule.

    Args:
        calendly: as whom.
        asked: what is asked for.
        connection: whose `calendly` is.
        mark: tells one request from another under the same key.
        now: the time.
        tags: whether bookings are tagged.
        forgotten: after a restore, the key may have been used before.

    Raises:
        RequestRefused: `cancels_everyone`, `invitee_not_active` or `slots_overlap`.
        CalendlyError: it could not be looked at.
    """
    intent, action = asked.intent, ordered_id(now)
    tag = tag_for(asked.org, asked.caller, asked.key) if tags else None
    request: dict[str, Any] = {"intent": intent.model_dump(mode="json")}
    facts: dict[str, Any] = {}
    step, move = _STEPS.get(intent.verb, "book"), None
    match intent:
        case BookIntent():
            request["booking"] = request["intent"]
        case CancelIntent():
            _require_few(await scheduled_events.get(calendly, intent.scheduled_event), everyone=intent.everyone)
        case RescheduleIntent():
            booking, facts = await _moved(calendly, intent, forgotten=forgotten)
            request["booking"] = booking.model_dump(mode="json")
            step = "cancel" if facts["plan"] == "cancel_first" else "book"
            given = {} if booking.tracking is None else booking.tracking.model_dump()
            move = move_row(
                asked.org,
                now,
                action=str(action),
                old_invitee=intent.invitee,
                tag=tag if tagged(given, tag)[1] else None,
                event_type=booking.event_type,
                start_time=moment(intent.start_time),
                person=person_digest(booking.email),
            )
        case _:
            pass
    written = orjson.dumps(request).decode()
    if len(written.encode()) > MAX_REQUEST:
        raise RequestRefused(
            "there is more to book with than an action keeps", code="too_large", remedy="Shorten the answers."
        )
    new = NewAction(
        *(action, asked.org, asked.caller, asked.key, mark, intent.verb, connection.id, connection.user_uri),
        *(target_of(intent), written, tag, step, facts),
    )
    return new, move


async def _moved(
    calendly: CalendlyTransport, intent: RescheduleIntent, *, forgotten: bool
) -> tuple[BookIntent, dict[str, Any]]:
    """Look at what is to be moved; return the booking of the new slot, and what is known of the old one."""
    old = await invitees.get(calendly, intent.invitee)
    meeting = await scheduled_events.get(calendly, old.event)
    # After a restore it may have been moved under this key before: then that is looked for, and nothing booked.
    moved = forgotten and old.status != "active"
    overlaps = not moved and _require_movable(intent, old, meeting)
    facts = {
        "plan": "cancel_first" if overlaps else "new_first",
        "old_event": old.event,
        "old_start": moment(meeting.start_time),
        "may_lose_slot": intent.may_lose_slot and not moved,
    }
    if moved:
        facts["only_looked_for"] = True
    return await _booking(calendly, intent, old, meeting), facts


def _require_few(meeting: ScheduledEventResource, *, everyone: bool) -> None:
    """Refuse to cancel several people's bookings for a caller who has not said so."""
    counter = meeting.raw.get("invitees_counter")
    active = counter.get("active") if isinstance(counter, Mapping) else None
    if everyone or (isinstance(active, int) and active <= 1):
        return
    people = f"{active} active invitees" if isinstance(active, int) else "an unknown number of active invitees"
    raise RequestRefused(
        f"this cancels the whole meeting, which has {people}",
        code="cancels_everyone",
        remedy="Calendly cannot cancel one of them. If all are to be canceled, say everyone=true.",
    )


async def joined_since(calendly: CalendlyTransport, record: ActionRecord) -> str | None:
    """Say that a meeting which is to be canceled has more invitees by now than its caller knows; None if it has not.

    Raises:
        CalendlyError: it could not be looked at.
    """
    intent = record.intent
    if record.step != "cancel" or not isinstance(intent, CancelIntent | RescheduleIntent):
        return None
    try:
        _require_few(await scheduled_events.get(calendly, record.meeting), everyone=intent.everyone)
    except RequestRefused as refusal:
        return shortened(refusal.message)
    return None


def _require_movable(intent: RescheduleIntent, old: InviteeResource, meeting: ScheduledEventResource) -> bool:
    """Refuse what cannot be moved; return whether the new slot overlaps the old one."""
    if old.status != "active":
        raise RequestRefused(
            "this invitee's booking is canceled already, so it cannot be moved",
            code="invitee_not_active",
            remedy="Book a new slot, if nobody has moved this booking.",
        )
    _require_few(meeting, everyone=intent.everyone)
    if any(each.year not in YEARS for each in (meeting.start_time, meeting.end_time or meeting.start_time)):
        raise RequestRefused("the old slot has no possible time", code="not_movable", remedy="Look at it in Calendly.")
    lasts = (meeting.end_time or meeting.start_time) - meeting.start_time
    overlaps = intent.start_time < meeting.start_time + max(lasts, timedelta(minutes=1)) and (
        intent.start_time + lasts > meeting.start_time
    )
    if overlaps and not intent.may_lose_slot:
        raise RequestRefused(
            "the new slot overlaps the old one, so the old one would have to be canceled first",
            code="slots_overlap",
            remedy="Choose another slot, or say may_lose_slot=true.",
        )
    return overlaps


async def _booking(
    calendly: CalendlyTransport, intent: RescheduleIntent, old: InviteeResource, meeting: ScheduledEventResource
) -> BookIntent:
    """Make the booking of the new slot from the old one."""
    told, event = old.raw, meeting.raw
    tracking = told.get("tracking")
    texts = {name: each for name, each in _dict(tracking).items() if isinstance(each, str)}
    kept, _ = tagged({**dict.fromkeys(TRACKING), **texts}, None)
    try:
        return BookIntent(
            event_type=event.get("event_type") or "",
            start_time=intent.start_time,
            email=told.get("email") or "",
            timezone=told.get("timezone") or "UTC",
            name=told.get("name") if not told.get("first_name") else None,
            first_name=told.get("first_name"),
            last_name=told.get("last_name"),
            text_reminder_number=told.get("text_reminder_number"),
            location=await _location(calendly, event),
            answers=tuple(
                BookedAnswer(question=each["question"], answer=each["answer"] or "", position=each["position"] or 0)
                for each in _dicts(told.get("questions_and_answers"))
                if each.get("question")
            ),
            guests=tuple(each["email"] for each in _dicts(event.get("event_guests")) if each.get("email")),
            tracking=None if kept is None else BookedTracking(**kept),
        )
    except (ValidationError, KeyError) as error:
        raise RequestRefused(
            "the old booking cannot be booked again as it is",
            code="not_movable",
            remedy="Book the new slot, then cancel the old one, each by itself.",
        ) from error


async def _location(calendly: CalendlyTransport, event: Mapping[str, Any]) -> BookedLocation | None:
    """Say where the new meeting is to be, where Calendly cannot tell by itself."""
    kind = await event_types.get(calendly, str(event.get("event_type") or ""))
    offered, place = kind.raw.get("locations"), event.get("location")
    if kind.raw.get("pooling_type") == "round_robin" or not isinstance(offered, list) or not isinstance(place, dict):
        return None
    told = place.get("type")
    name = KINDS.get(told, told) if isinstance(told, str) else None
    known = any(each.get("kind") == name for each in _dicts(offered))
    if not name or not known or (len(offered) == 1 and name not in ASKED):
        return None
    said = place.get("location")
    return BookedLocation(kind=name, location=said if isinstance(said, str) and said else None)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
