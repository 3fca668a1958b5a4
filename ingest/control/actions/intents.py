"""What a caller can have done at Calendly, and what Calendly is sent for it. Pure.

Source: docs/reference/calendly.md, "REST".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from slotwire.ingest.control.calendly_client.resources import MAX_URI, ORIGIN, path_to
from slotwire.ingest.errors import CalendlyError

TAG = "slotwire-"
"""How a tag begins: it marks a booking as an action's own."""
TAG_FIELDS = ("utm_term", "utm_content")
"""Where a tag goes: into the first of these that the caller left empty."""
TRACKING = ("utm_campaign", "utm_source", "utm_medium", "utm_content", "utm_term", "salesforce_uuid")
"""Calendly wants all six, or none."""
MAX_REASON = 10_000
MAX_GUESTS = 10
MAX_ANSWERS = 50
MAX_WORDS = 2_000
YEARS = range(2000, 2200)
"""Of a slot. Times near the ends of what Python knows cannot be moved to another zone."""


def _uri(collection: str, inner: str = "") -> AfterValidator:
    def check(value: str) -> str:
        whole = value if value.startswith(f"{ORIGIN}/") or inner else f"{ORIGIN}/{collection}/{value}"
        try:
            path_to(collection, whole, inner)
        except CalendlyError as error:
            raise ValueError(error.message) from None
        return whole

    return AfterValidator(check)


def _possible(value: datetime) -> datetime:
    if value.year not in YEARS:
        raise ValueError(f"a slot starts between {YEARS.start} and {YEARS.stop - 1}")
    return value


SlotTime = Annotated[AwareDatetime, AfterValidator(_possible)]
_Text = Annotated[str, Field(min_length=1, max_length=MAX_WORDS)]
_Mail = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)]
_Uri = Annotated[str, Field(min_length=1, max_length=MAX_URI)]
EventTypeUri = Annotated[_Uri, _uri("event_types")]
ScheduledEventUri = Annotated[_Uri, _uri("scheduled_events")]
WholeInviteeUri = Annotated[_Uri, _uri("scheduled_events", "invitees")]
MarkUri = Annotated[_Uri, _uri("invitee_no_shows")]


class IntentPart(BaseModel):
    """A frozen part of an intent that refuses unknown names, and what Postgres cannot keep."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        values = given.values() if isinstance(given, dict) else ()
        texts = (each for value in values for each in (value if isinstance(value, list | tuple) else (value,)))
        if any(isinstance(each, str) and "\0" in each for each in texts):
            raise ValueError("a text holds a null character")
        return given


class BookedLocation(IntentPart):
    """Where the meeting is to be: one of the event type's locations."""

    kind: _Text
    """As the event type calls it, for example `zoom_conference`."""
    location: _Text | None = None
    """An address or a number, where the kind needs one."""


class BookedAnswer(IntentPart):
    """An answer to a question of the event type."""

    question: _Text
    """The question's text, exactly as the event type has it."""
    answer: str = Field(max_length=MAX_WORDS)
    """The answer."""
    position: int = Field(0, ge=0, le=1_000)
    """Where the question stands in the form."""


class BookedTracking(IntentPart):
    """Where the booking comes from. Unless switched off, a tag goes into `utm_term`, else `utm_content`, if empty."""

    utm_campaign: str | None = Field(None, max_length=255)
    """The campaign."""
    utm_source: str | None = Field(None, max_length=255)
    """The source."""
    utm_medium: str | None = Field(None, max_length=255)
    """The medium."""
    utm_content: str | None = Field(None, max_length=255)
    """The content."""
    utm_term: str | None = Field(None, max_length=255)
    """The term."""
    salesforce_uuid: str | None = Field(None, max_length=255)
    """A record of Salesforce's."""


class BookIntent(IntentPart):
    """Book a slot of an event type for somebody."""

    verb: Literal["book"] = "book"
    """Book."""
    event_type: EventTypeUri
    """The event type's URI, or its bare id."""
    start_time: SlotTime
    """When the slot starts."""
    email: _Mail
    """The invitee's e-mail address."""
    timezone: _Text
    """The invitee's time zone, for example `Europe/Paris`."""
    name: _Text | None = None
    """The invitee's name; else give `first_name`."""
    first_name: _Text | None = None
    """Where the form has two fields for the name."""
    last_name: _Text | None = None
    """The second of them."""
    text_reminder_number: _Text | None = None
    """A telephone number for reminders."""
    location: BookedLocation | None = None
    """Leave it out for round robin."""
    answers: tuple[BookedAnswer, ...] = Field((), max_length=MAX_ANSWERS)
    """Answers to the event type's questions."""
    guests: tuple[_Mail, ...] = Field((), max_length=MAX_GUESTS)
    """E-mail addresses of guests."""
    tracking: BookedTracking | None = None
    """Where the booking comes from."""

    @model_validator(mode="after")
    def _named(self) -> BookIntent:
        if self.name is None and self.first_name is None:
            raise ValueError("name: give it, or first_name")
        return self


class CancelIntent(IntentPart):
    """Cancel a scheduled event: the whole meeting, for all its invitees."""

    verb: Literal["cancel"] = "cancel"
    """Cancel."""
    scheduled_event: ScheduledEventUri
    """The scheduled event's URI, or its bare id."""
    reason: str | None = Field(None, max_length=MAX_REASON)
    """The invitee reads it."""
    everyone: bool = False
    """Needed where more than one invitee is active: all of them are canceled."""


class RescheduleIntent(IntentPart):
    """Move a booking: book the new slot, then cancel the old one.

    For a moment the invitee holds two, and gets two mails.
    """

    verb: Literal["reschedule"] = "reschedule"
    """Reschedule."""
    invitee: WholeInviteeUri
    """The URI of the invitee that is moved."""
    start_time: SlotTime
    """When the new slot starts; of the same event type."""
    reason: str | None = Field(None, max_length=MAX_REASON)
    """The invitee reads it with the cancellation of the old slot."""
    everyone: bool = False
    """Needed where the old meeting has more than one active invitee: all of them are canceled."""
    may_lose_slot: bool = False
    """Cancel first where the slots overlap, or Calendly refuses the new one while the old one stands. If the new slot
    cannot be booked then, the old one is booked again; if that fails too, a person decides."""


class MarkIntent(IntentPart):
    """Mark an invitee as a no-show."""

    verb: Literal["mark_no_show"] = "mark_no_show"
    """Mark."""
    invitee: WholeInviteeUri
    """The invitee's URI."""


class ClearIntent(IntentPart):
    """Clear a no-show mark."""

    verb: Literal["clear_no_show"] = "clear_no_show"
    """Clear."""
    mark: MarkUri
    """The mark's URI, or its bare id."""


Intent = Annotated[BookIntent | CancelIntent | RescheduleIntent | MarkIntent | ClearIntent, Field(discriminator="verb")]
"""What can be asked for."""
INTENT: TypeAdapter[Any] = TypeAdapter(Intent)


def target_of(intent: Any) -> str:
    """Return the URI of what an intent is done to."""
    match intent:
        case BookIntent():
            return intent.event_type
        case CancelIntent():
            return intent.scheduled_event
        case ClearIntent():
            return intent.mark
        case _:
            found: str = intent.invitee
            return found


def fingerprint(intent: BaseModel, connection: UUID | None) -> bytes:
    """Return what tells one request from another under the same key."""
    told = [intent.model_dump(mode="json"), None if connection is None else str(connection)]
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).digest()


def tag_for(org: str, caller: str, key: str) -> str:
    """Return the tag of a key: the same after a restore that forgot the action."""
    return TAG + hashlib.sha256(f"{org}\n{caller}\n{key}".encode()).hexdigest()[:32]


def tagged(tracking: Mapping[str, str | None], tag: str | None) -> tuple[dict[str, str | None] | None, bool]:
    """Put a tag where it fits.

    Args:
        tracking: as the caller gave it, or as another booking carries it; tags of others are left out.
        tag: None for none.

    Returns:
        What is sent: all six fields, or None; and whether it carries the tag.
    """
    sent: dict[str, str | None] = {
        name: None if (value := tracking.get(name)) is None or value.startswith(TAG) else value for name in TRACKING
    }
    place = next((name for name in TAG_FIELDS if sent[name] is None), None)
    if tag is None or place is None:
        return (sent if any(sent.values()) else None), False
    return {**sent, place: tag}, True


def moment(time: datetime) -> str:
    """Write a time as Calendly takes it."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def booking_body(intent: BookIntent, tracking: dict[str, str | None] | None) -> dict[str, Any]:
    """Write the body of `POST /invitees`."""
    invitee = {
        name: value
        for name in ("email", "timezone", "name", "first_name", "last_name", "text_reminder_number")
        if (value := getattr(intent, name)) is not None
    }
    body: dict[str, Any] = {
        "event_type": intent.event_type,
        "start_time": moment(intent.start_time),
        "invitee": invitee,
    }
    if intent.location is not None:
        body["location"] = intent.location.model_dump(exclude_none=True)
    if intent.answers:
        body["questions_and_answers"] = [each.model_dump() for each in intent.answers]
    if tracking is not None:
        body["tracking"] = tracking
    if intent.guests:
        body["event_guests"] = list(intent.guests)
    return body
