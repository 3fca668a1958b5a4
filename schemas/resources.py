"""Calendly's payloads about resources other than bookings, read leniently, as in `calendly`. We store no state of them.

Source: docs/reference/calendly.md, "Payloads".
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from .calendly import Part, Time, Tracking, Uri, Whole, null_to_empty


class RoutingAnswer(Part):
    """An answer in a routing form."""

    question_uuid: str | None = None
    """The question's identifier."""
    question: str | None = None
    """The question as it was asked."""
    answer: str | None = None
    """The answer as text."""


class RoutingResult(Part):
    """Where the form led: `value` is a URI, an address, or an object with `headline` and `body`."""

    type: str | None = None
    """`event_type`, `external_url` or `custom_message`."""
    value: str | dict[str, Any] | None = None
    """Where to, or what was shown."""


class RoutingFormSubmissionPayload(Part):
    """The payload of `routing_form_submission.created`: sent on submit, booked or not."""

    uri: Uri
    """The submission."""
    routing_form: str | None = None
    """The form's URI."""
    questions_and_answers: Annotated[list[RoutingAnswer], BeforeValidator(null_to_empty)] = Field(
        default_factory=list[RoutingAnswer]
    )
    """What the form asked."""
    tracking: Tracking | None = None
    """Where the visitor came from."""
    result: RoutingResult | None = None
    """Where the form led."""
    submitter: str | None = None
    """The invitee who booked after it, by URI; often null."""
    submitter_type: str | None = None
    """`Invitee`."""
    created_at: Time | None = None
    """When it was submitted."""
    updated_at: Time | None = None
    """When it was last changed."""


class EventTypeProfile(Part):
    """Who an event type belongs to: a user or a team."""

    type: str | None = None
    """`User` or `Team`."""
    name: str | None = None
    """The display name."""
    owner: str | None = None
    """The URI."""


class CustomQuestion(Part):
    """A question of an event type's booking form."""

    name: str | None = None
    """The question."""
    type: str | None = None
    """What kind of answer: `string`, `text`, `single_select` and so on."""
    position: Whole | None = None
    """Where it stands in the form."""
    enabled: bool | None = None
    """Whether it is asked."""
    required: bool | None = None
    """Whether it must be answered."""
    answer_choices: list[str] | None = None
    """What can be chosen."""
    include_other: bool | None = None
    """Whether another answer can be given."""


class EventTypePayload(Part):
    """The payload of `event_type.*`. `locations` are as configured: `kind` and other names than a booking's."""

    uri: Uri
    """The event type."""
    name: str | None = None
    """Its name."""
    active: bool | None = None
    """Whether it can be booked."""
    slug: str | None = None
    """Its part of the booking page's address."""
    scheduling_url: str | None = None
    """Its booking page."""
    duration: Whole | None = None
    """Minutes."""
    duration_options: list[Whole] | None = None
    """Other lengths to choose from, in minutes."""
    kind: str | None = None
    """`solo` or `group`."""
    is_paid: bool | None = None
    """Whether a payment is asked for."""
    pooling_type: str | None = None
    """`round_robin`, `collective`, `multi_pool`; null for one host."""
    type_: str | None = Field(None, alias="type")
    """`type` in JSON: `StandardEventType` or `AdhocEventType`."""
    color: str | None = None
    """As on the booking page."""
    created_at: Time | None = None
    """When it was made."""
    updated_at: Time | None = None
    """When it was last changed."""
    internal_note: str | None = None
    """For hosts only."""
    description_plain: str | None = None
    """Its description as text."""
    description_html: str | None = None
    """Its description as HTML."""
    profile: EventTypeProfile | None = None
    """Who it belongs to."""
    secret: bool | None = None
    """Whether it is hidden from the owner's page."""
    booking_method: str | None = None
    """`instant` or `poll`."""
    custom_questions: Annotated[list[CustomQuestion], BeforeValidator(null_to_empty)] = Field(
        default_factory=list[CustomQuestion]
    )
    """What its booking form asks."""
    deleted_at: Time | None = None
    """When it was deleted."""
    admin_managed: bool | None = None
    """Whether an admin of the organization manages it."""
    locations: list[dict[str, Any]] | None = None
    """Where meetings can be, as configured."""
    position: Whole | None = None
    """Where it stands among the others."""
    locale: str | None = None
    """The language of its booking page."""


class ResourcePayload(Part):
    """The payload of `contact.*` and `meeting_recap.*`, of which Calendly has published no sample.

    What is known is typed: the URI, and that a deleted one is a tombstone with `deleted_at`. All else is kept
    under `extra` until a sample is known.
    """

    uri: Uri
    """The contact or the recap."""
    created_at: Time | None = None
    """When it was made."""
    updated_at: Time | None = None
    """When it was last changed."""
    deleted_at: Time | None = None
    """When it was deleted."""
