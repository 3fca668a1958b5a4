"""Calendly's payloads about bookings, read leniently, in Calendly's words.

An absent field is null. An unknown field moves under `extra` of its object. An unknown enum value is accepted as a
string. Identifiers are opaque. Official examples omit keys that the official schema requires, so only the fields that
give an event its identity are required here. Source: docs/reference/calendly.md, "Payloads".
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class Part(BaseModel):
    """An object of a payload: frozen. `model_validate` moves unknown fields under `extra`.

    Few payloads have unknown fields, so each is first read as if none were allowed, and a second time only if that
    fails.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True, use_attribute_docstrings=True)

    parts_inside: ClassVar[dict[str, type[Part] | None]] = {}
    """The names of the fields as they are in JSON, each with the class of the objects inside it; None without one."""
    required_names: ClassVar[frozenset[str]] = frozenset()
    """The names of the fields that must be there."""

    extra: dict[str, Any] = Field(default_factory=dict, exclude_if=operator.not_)
    """Fields that Calendly sent and this version does not know, or that are not as documented; unchanged."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Compute once per class what reading leniently needs to know of its fields."""
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        cls.parts_inside = {name: _part_in(field.annotation) for name, field in fields.items()}
        cls.required_names = frozenset(name for name, field in fields.items() if field.is_required())

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Read an object; unknown fields move under `extra`.

        Raises:
            ValidationError: it does not fit.
        """
        try:
            return super().model_validate(obj, extra="forbid", **options)
        except ValidationError:
            return super().model_validate(set_apart(cls, obj), **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Read JSON; unknown fields move under `extra`.

        Raises:
            ValidationError: it is not JSON, or does not fit.
        """
        try:
            return super().model_validate_json(json_data, extra="forbid", **options)
        except ValidationError as problem:
            if any(issue["type"] == "json_invalid" for issue in problem.errors(include_url=False, include_input=False)):
                raise
            return super().model_validate(set_apart(cls, json.loads(json_data)), **options)

    @classmethod
    def made(cls, known: Mapping[str, Any], **values: Any) -> Self:
        """Make a part from valid values without validating them again, which takes a fraction of the time.

        Args:
            known: fields of a part that was validated.
            values: all other fields; defaults are not filled in.
        """
        made = cls.__new__(cls)
        fields: dict[str, Any] = {"extra": {}, **known, **values}
        object.__setattr__(made, "__dict__", fields)
        object.__setattr__(made, "__pydantic_fields_set__", set(fields))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


def _part_in(annotation: Any) -> type[Part] | None:
    """Return the class of the parts in a field, which is a part, a list of parts, or neither (None)."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, Part) else None
    return next((found for each in get_args(annotation) if (found := _part_in(each)) is not None), None)


def set_apart(cls: type[Part], value: Any) -> Any:
    """Move unknown fields under `extra`, in this object and in the parts inside. Other misfits stay for validation."""
    if type(value) is list:
        return [set_apart(cls, each) for each in value]
    if type(value) is not dict:
        return value
    parts = cls.parts_inside
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, item in value.items():
        if name == "extra":
            # Ours is an object; should Calendly ever send a field of that name, it is one we do not know.
            unknown = {**(item if type(item) is dict else {"extra": item}), **unknown}
        elif name in parts:
            part = parts[name]
            known[name] = item if part is None else set_apart(part, item)
        else:
            unknown[name] = item
    return {**known, "extra": unknown} if unknown else known


def null_to_empty(value: Any) -> Any:
    """Read null where a list is expected as an empty one."""
    return [] if value is None else value


_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
Time = Annotated[AwareDatetime, Field(ge=_EARLIEST, le=_LATEST)]
"""A time with its offset, at least a day inside Python's range, so that it can be converted to UTC."""
Whole = Annotated[int, Field(gt=-(2**53), lt=2**53)]
"""A whole number that every JSON parser reads exactly (RFC 7493, section 2.2)."""
Uri = Annotated[str, Field(min_length=1, max_length=2000)]
"""An opaque address of Calendly's; 2,000 characters at the most."""


class Tracking(Part):
    """Where a booking came from. Calendly passes the UTM parameters on, sometimes without long values."""

    utm_campaign: str | None = None
    """The campaign."""
    utm_source: str | None = None
    """The source."""
    utm_medium: str | None = None
    """The medium."""
    utm_content: str | None = None
    """The content."""
    utm_term: str | None = None
    """The term."""
    salesforce_uuid: str | None = None
    """A record of Salesforce's."""


class QuestionAndAnswer(Part):
    """An answer to a question of the booking form. Positions may have gaps and start at 0 or 1."""

    question: str | None = None
    """The question as it was asked."""
    answer: str | None = None
    """The answer as text; several are parted by line ends."""
    position: Whole | None = None
    """Where it stands in the form."""


class Cancellation(Part):
    """Who cancelled and why. `canceled_by` is a display name."""

    canceled_by: str | None = None
    """A display name, not an identifier."""
    reason: str | None = None
    """As it was typed; may be empty."""
    canceler_type: str | None = None
    """`host` or `invitee`."""
    created_at: Time | None = None
    """When it was cancelled."""


class NoShow(Part):
    """A mark that the invitee did not come."""

    uri: Uri
    """The mark."""
    created_at: Time | None = None
    """When it was set."""


class Payment(Part):
    """A payment made with the booking."""

    external_id: str | None = None
    """The provider's identifier of the charge."""
    provider: str | None = None
    """`stripe`, `paypal`."""
    amount: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """In whole units of the currency, with fractions."""
    currency: str | None = None
    """`AUD`, `CAD`, `EUR`, `GBP`, `USD`."""
    terms: str | None = None
    """The terms that were shown."""
    successful: bool | None = None
    """Whether it went through."""


class Reconfirmation(Part):
    """A request to confirm again."""

    created_at: Time | None = None
    """When it was asked for."""
    confirmed_at: Time | None = None
    """When it was given; null until then."""


class EventMembership(Part):
    """A host of the scheduled event."""

    user: str | None = None
    """The host's URI."""
    user_email: str | None = None
    """The host's mail address."""
    user_name: str | None = None
    """The host's display name."""


class EventGuest(Part):
    """A guest the invitee added."""

    email: str | None = None
    """The guest's mail address."""
    created_at: Time | None = None
    """When the guest was added."""
    updated_at: Time | None = None
    """When the guest was last changed."""


class InviteesCounter(Part):
    """How many invitees a scheduled event has."""

    total: Whole | None = None
    """All, cancelled ones included."""
    active: Whole | None = None
    """Those who are still booked."""
    limit: Whole | None = None
    """How many there may be."""


class Location(Part):
    """Where the meeting is. `type` says which of the other fields are there; it may be absent.

    `data` is the conference provider's own object: a Zoom `id` is documented as a string and comes as an
    integer above 2^32. `join_url` and `data` can hold passwords: never log them.
    """

    type: str | None = None
    """`physical`, `zoom`, `outbound_call` …; absent or null is possible."""
    location: str | None = None
    """An address, a telephone number or a text, as the type has it."""
    additional_info: str | None = None
    """What the host wrote besides."""
    status: str | None = None
    """Of the conference: `initiated`, `processing`, `pushed`, `failed`."""
    join_url: str | None = None
    """Where to join; may be there before the conference is."""
    data: dict[str, Any] | None = None
    """What the conference's provider says of it."""


class ScheduledEvent(Part):
    """Calendly's booked meeting, which one or more invitees share."""

    uri: Uri
    """The scheduled event."""
    name: str | None = None
    """As the event type was called when it was booked."""
    meeting_notes_plain: str | None = None
    """The host's notes as text."""
    meeting_notes_html: str | None = None
    """The host's notes as HTML."""
    status: str | None = None
    """`active` or `canceled`, for all its invitees together."""
    start_time: Time | None = None
    """When it starts."""
    end_time: Time | None = None
    """When it ends."""
    event_type: str | None = None
    """The event type's URI."""
    location: Location | None = None
    """Where it is."""
    invitees_counter: InviteesCounter | None = None
    """How many invitees it has."""
    created_at: Time | None = None
    """When it was made."""
    updated_at: Time | None = None
    """When it was last changed."""
    event_memberships: Annotated[list[EventMembership], BeforeValidator(null_to_empty)] = Field(
        default_factory=list[EventMembership]
    )
    """Its hosts."""
    event_guests: Annotated[list[EventGuest], BeforeValidator(null_to_empty)] = Field(default_factory=list[EventGuest])
    """The guests its invitees added."""
    cancellation: Cancellation | None = None
    """Who cancelled it and why."""


class InviteePayload(Part):
    """The payload of `invitee.*` and `invitee_no_show.*`: an invitee with its scheduled event."""

    uri: Uri
    """The invitee, and so the booking."""
    email: str | None = None
    """The invitee's mail address."""
    name: str | None = None
    """The invitee's full name."""
    first_name: str | None = None
    """Null where the form has one field for the name."""
    last_name: str | None = None
    """Null where the form has one field for the name."""
    status: str | None = None
    """`active` or `canceled`, as Calendly says."""
    questions_and_answers: Annotated[list[QuestionAndAnswer], BeforeValidator(null_to_empty)] = Field(
        default_factory=list[QuestionAndAnswer]
    )
    """What the booking form asked."""
    timezone: str | None = None
    """IANA name, legacy ones included."""
    event: str | None = None
    """The scheduled event's URI."""
    created_at: Time | None = None
    """When it was booked."""
    updated_at: Time | None = None
    """Does not move when a no-show is marked or cleared."""
    tracking: Tracking | None = None
    """Where the booking came from."""
    text_reminder_number: str | None = None
    """A telephone number, in any notation."""
    rescheduled: bool | None = None
    """True on the old invitee of a reschedule only."""
    old_invitee: Uri | None = None
    """The invitee it was before a reschedule."""
    new_invitee: Uri | None = None
    """The invitee it became by a reschedule."""
    cancel_url: str | None = None
    """Anyone who has it can cancel the booking: never log it."""
    reschedule_url: str | None = None
    """Anyone who has it can reschedule the booking: never log it."""
    routing_form_submission: str | None = None
    """The submission that led here, by URI."""
    payment: Payment | None = None
    """What was paid."""
    no_show: NoShow | None = None
    """The no-show mark that is set."""
    reconfirmation: Reconfirmation | None = None
    """A request to confirm again."""
    scheduling_method: str | None = None
    """`instant_book`, `api` or null."""
    invitee_scheduled_by: str | None = None
    """The user who booked in the invitee's place, by URI."""
    cancellation: Cancellation | None = None
    """Who cancelled and why."""
    scheduled_event: ScheduledEvent | None = None
    """The meeting it is a booking of."""


class Envelope(Part):
    """The outer object of every delivery."""

    event: str
    """The name of the event."""
    created_at: Time | None = None
    """Whole seconds only; cannot order events within one."""
    created_by: str | None = None
    """The user who made the subscription, not the host."""
    payload: dict[str, Any]
    """What it is about."""
