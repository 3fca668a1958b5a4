"""What Calendly sends, in its own words, leniently read.

Absent means null; an unknown field is kept under `extra` of the object it came in; an unknown enum value
passes as a string; identifiers are opaque. Official examples omit keys that the official schema requires, so
only what gives an event its identity is required here. Source: docs/reference/calendly.md, "Payloads".
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Part(BaseModel):
    """An object of a payload: frozen; fields it does not know are moved under `extra`."""

    model_config = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True, use_attribute_docstrings=True)

    _known: ClassVar[frozenset[str]] = frozenset()

    extra: dict[str, Any] = Field(default_factory=dict, exclude_if=operator.not_)
    """Fields of Calendly's that this version does not know, as they came."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Remember the known names once a class, not once an object."""
        cls._known = frozenset(field.alias or name for name, field in cls.model_fields.items())

    @model_validator(mode="before")
    @classmethod
    def _keep_unknown(cls, value: Any) -> Any:
        if type(value) is not dict or value.keys() <= cls._known:
            return value
        known = {name: item for name, item in value.items() if name in cls._known}
        unknown = {name: item for name, item in value.items() if name not in cls._known}
        return {**known, "extra": {**known.get("extra", {}), **unknown}}


def _null_to_empty(value: Any) -> Any:
    return [] if value is None else value


Uri = Annotated[str, Field(min_length=1, max_length=2000)]
"""An opaque address of Calendly's; 2,000 characters at the most."""


class Tracking(Part):
    """Where a booking came from. Calendly passes the UTM parameters on, sometimes without long values."""

    utm_campaign: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_content: str | None = None
    utm_term: str | None = None
    salesforce_uuid: str | None = None


class QuestionAndAnswer(Part):
    """An answer to a question of the booking form. Positions may have gaps and start at 0 or 1."""

    question: str | None = None
    answer: str | None = None
    position: int | None = None


class Cancellation(Part):
    """Who cancelled and why. `canceled_by` is a display name."""

    canceled_by: str | None = None
    reason: str | None = None
    canceler_type: str | None = None
    created_at: AwareDatetime | None = None


class NoShow(Part):
    """A mark that the invitee did not come."""

    uri: Uri
    created_at: AwareDatetime | None = None


class Payment(Part):
    """A payment made with the booking."""

    external_id: str | None = None
    provider: str | None = None
    amount: float | None = None
    currency: str | None = None
    terms: str | None = None
    successful: bool | None = None


class Reconfirmation(Part):
    """A request to confirm again."""

    created_at: AwareDatetime | None = None
    confirmed_at: AwareDatetime | None = None


class EventMembership(Part):
    """A host of the scheduled event."""

    user: str | None = None
    user_email: str | None = None
    user_name: str | None = None


class EventGuest(Part):
    """A guest the invitee added."""

    email: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class InviteesCounter(Part):
    """How many invitees a scheduled event has."""

    total: int | None = None
    active: int | None = None
    limit: int | None = None


class Location(Part):
    """Where the meeting is. `type` says which of the other fields are there; it may be absent.

    `data` is the conference provider's own object: a Zoom `id` is documented as a string and comes as an
    integer above 2^32. `join_url` and `data` can hold passwords: never log them.
    """

    type: str | None = None
    location: str | None = None
    additional_info: str | None = None
    status: str | None = None
    join_url: str | None = None
    data: dict[str, Any] | None = None


class ScheduledEvent(Part):
    """Calendly's booked meeting, which one or more invitees share."""

    uri: Uri
    name: str | None = None
    meeting_notes_plain: str | None = None
    meeting_notes_html: str | None = None
    status: str | None = None
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    event_type: str | None = None
    location: Location | None = None
    invitees_counter: InviteesCounter | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    event_memberships: Annotated[list[EventMembership], BeforeValidator(_null_to_empty)] = Field(default_factory=list)
    event_guests: Annotated[list[EventGuest], BeforeValidator(_null_to_empty)] = Field(default_factory=list)
    cancellation: Cancellation | None = None


class InviteePayload(Part):
    """The payload of `invitee.*` and `invitee_no_show.*`: an invitee with its scheduled event."""

    uri: Uri
    """The invitee, and so the booking."""
    email: str | None = None
    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    status: str | None = None
    """`active` or `canceled`, as Calendly says."""
    questions_and_answers: Annotated[list[QuestionAndAnswer], BeforeValidator(_null_to_empty)] = Field(
        default_factory=list
    )
    timezone: str | None = None
    """IANA name, legacy ones included."""
    event: str | None = None
    """The scheduled event's URI."""
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    """Does not move when a no-show is marked or cleared."""
    tracking: Tracking | None = None
    text_reminder_number: str | None = None
    rescheduled: bool | None = None
    """True on the old invitee of a reschedule only."""
    old_invitee: Uri | None = None
    new_invitee: Uri | None = None
    cancel_url: str | None = None
    """Whoever holds it can cancel: never log it."""
    reschedule_url: str | None = None
    """Whoever holds it can reschedule: never log it."""
    routing_form_submission: str | None = None
    payment: Payment | None = None
    no_show: NoShow | None = None
    reconfirmation: Reconfirmation | None = None
    scheduling_method: str | None = None
    invitee_scheduled_by: str | None = None
    cancellation: Cancellation | None = None
    scheduled_event: ScheduledEvent | None = None


class RoutingAnswer(Part):
    """An answer in a routing form."""

    question_uuid: str | None = None
    question: str | None = None
    answer: str | None = None


class RoutingResult(Part):
    """Where the form led: `value` is a URI, an address, or an object with `headline` and `body`."""

    type: str | None = None
    value: str | dict[str, Any] | None = None


class RoutingFormSubmissionPayload(Part):
    """The payload of `routing_form_submission.created`: sent on submit, booked or not."""

    uri: Uri
    routing_form: str | None = None
    questions_and_answers: Annotated[list[RoutingAnswer], BeforeValidator(_null_to_empty)] = Field(default_factory=list)
    tracking: Tracking | None = None
    result: RoutingResult | None = None
    submitter: str | None = None
    submitter_type: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class EventTypeProfile(Part):
    """Who an event type belongs to: a user or a team."""

    type: str | None = None
    name: str | None = None
    owner: str | None = None


class CustomQuestion(Part):
    """A question of an event type's booking form."""

    name: str | None = None
    type: str | None = None
    position: int | None = None
    enabled: bool | None = None
    required: bool | None = None
    answer_choices: list[str] | None = None
    include_other: bool | None = None


class EventTypePayload(Part):
    """The payload of `event_type.*`. `locations` are as configured: `kind` and other names than a booking's."""

    uri: Uri
    name: str | None = None
    active: bool | None = None
    slug: str | None = None
    scheduling_url: str | None = None
    duration: int | None = None
    """Minutes."""
    duration_options: list[int] | None = None
    kind: str | None = None
    is_paid: bool | None = None
    pooling_type: str | None = None
    type_: str | None = Field(None, alias="type")
    """`type` in JSON: `StandardEventType` or `AdhocEventType`."""
    color: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    internal_note: str | None = None
    description_plain: str | None = None
    description_html: str | None = None
    profile: EventTypeProfile | None = None
    secret: bool | None = None
    booking_method: str | None = None
    custom_questions: Annotated[list[CustomQuestion], BeforeValidator(_null_to_empty)] = Field(default_factory=list)
    deleted_at: AwareDatetime | None = None
    admin_managed: bool | None = None
    locations: list[dict[str, Any]] | None = None
    position: int | None = None
    locale: str | None = None


class ResourcePayload(Part):
    """The payload of `contact.*` and `meeting_recap.*`, of which Calendly has published no sample.

    What is known is typed: the URI, and that a deleted one is a tombstone with `deleted_at`. All else is kept
    under `extra` until a sample is known.
    """

    uri: Uri
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    deleted_at: AwareDatetime | None = None


class Envelope(Part):
    """What every delivery is wrapped in."""

    event: str
    created_at: AwareDatetime | None = None
    """Whole seconds only; cannot order events within one."""
    created_by: str | None = None
    """The user who made the subscription, not the host."""
    payload: dict[str, Any]
