"""What Calendly's operations answer, typed: one model a resource. Values that a caller gives are typed in `api/`.

They read leniently, because Calendly adds fields without notice: what is not documented is kept as an attribute, and
any field may be missing. A documented field of another type is an error (`unexpected`). Text forms leave people out.
Source: docs/reference/calendly.md, "REST".
"""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

Json: TypeAlias = dict[str, Any]
Private: TypeAlias = str | None
"""About a person."""


class LenientDocument(BaseModel):
    """A part of an answer; fields that it does not name are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def __repr__(self) -> str:
        """Show the URI only: the rest may be about people."""
        return f"{type(self).__name__}({getattr(self, 'uri', None)!r})"

    __str__ = __repr__


class LenientResource(LenientDocument):
    """A resource with an address."""

    uri: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class ActivityLogEntryDocument(LenientResource):
    """Something that somebody did in the organization's account."""

    occurred_at: AwareDatetime | None = None
    namespace: str | None = None
    action: str | None = None
    actor: Json | None = None
    details: Json | None = None
    fully_qualified_name: str | None = None
    organization: str | None = None


class AvailableTimeDocument(LenientDocument):
    """A time at which an event type can be booked."""

    status: str | None = None
    start_time: AwareDatetime | None = None
    invitees_remaining: int | None = None
    scheduling_url: str | None = None


class AvailabilityScheduleDocument(LenientResource):
    """When a user or an event type can be booked."""

    name: str | None = None
    user: str | None = None
    default: bool | None = None
    timezone: str | None = None
    rules: list[Json] | None = None
    availability_rule: Json | None = None
    availability_setting: str | None = None


class BusyTimeDocument(LenientDocument):
    """A time at which a user is busy."""

    type: str | None = None
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    buffered_start_time: AwareDatetime | None = None
    buffered_end_time: AwareDatetime | None = None
    event: Json | None = None


class CancellationDocument(LenientDocument):
    """A cancellation of a meeting."""

    canceled_by: Private = None
    canceler_type: str | None = None
    reason: Private = None
    created_at: AwareDatetime | None = None


class ContactDocument(LenientResource):
    """A contact of the token's user."""

    name: Private = None
    emails: list[Json] | None = None
    phone_numbers: list[Json] | None = None
    timezone: str | None = None
    job_title: Private = None
    company: Private = None
    country: str | None = None
    state: str | None = None
    city: Private = None
    linkedin: Private = None
    custom_fields: list[Json] | None = None
    app_url: str | None = None


class ContactFieldDefinitionDocument(LenientResource):
    """A field that contacts have besides the usual ones."""

    label: str | None = None
    field_type: str | None = None
    options: list[Json] | None = None
    currency: str | None = None


class ContactListDocument(LenientResource):
    """A list of contacts."""

    name: str | None = None
    type: str | None = None
    contact_count: int | None = None
    membership_result: Json | None = None


class ContactListMembershipDocument(LenientDocument):
    """What became of contacts that were put on a list, or taken off it."""

    invalid: int | None = None


class EventTypeDocument(LenientResource):
    """Something that can be booked."""

    name: Private = None
    active: bool | None = None
    slug: str | None = None
    scheduling_url: str | None = None
    duration: int | None = None
    duration_options: list[int] | None = None
    kind: str | None = None
    type: str | None = None
    pooling_type: str | None = None
    color: str | None = None
    locations: list[Json] | None = None
    custom_questions: list[Json] | None = None
    profile: Json | None = None
    secret: bool | None = None
    deleted_at: AwareDatetime | None = None


class EventTypeMembershipDocument(LenientDocument):
    """A host of an event type."""

    event_type: str | None = None
    member: Json | None = None


class GroupDocument(LenientResource):
    """Some users of an organization."""

    name: str | None = None
    organization: str | None = None
    member_count: int | None = None


class GroupRelationshipDocument(LenientResource):
    """A user's place in a group."""

    owner: Json | None = None
    group: Json | None = None
    organization: str | None = None
    role: str | None = None


class InviteeDocument(LenientResource):
    """A person's place in a scheduled event."""

    event: str | None = None
    email: Private = None
    name: Private = None
    first_name: Private = None
    last_name: Private = None
    status: str | None = None
    timezone: str | None = None
    questions_and_answers: list[Json] | None = None
    tracking: Json | None = None
    text_reminder_number: Private = None
    rescheduled: bool | None = None
    old_invitee: str | None = None
    new_invitee: str | None = None
    cancel_url: SecretStr | None = None
    reschedule_url: SecretStr | None = None
    routing_form_submission: str | None = None
    cancellation: Json | None = None
    payment: Json | None = None
    no_show: Json | None = None
    scheduling_method: str | None = None
    invitee_scheduled_by: str | None = None


class InviteeNoShowDocument(LenientResource):
    """A no-show mark."""

    invitee: str | None = None


class LocationDocument(LenientDocument):
    """Where a user meets people."""

    kind: str | None = None
    location: Private = None
    additional_info: Private = None
    phone_number: Private = None
    status: str | None = None


class MeetingLimitsDocument(LenientDocument):
    """How many meetings a user takes; null is no limit."""

    daily_limit: int | None = None
    weekly_limit: int | None = None
    monthly_limit: int | None = None


class MeetingRecapDocument(LenientResource):
    """What was said in a meeting."""

    event: str | None = None
    status: str | None = None
    summary_md: Private = None
    action_items_md: Private = None
    discussion_md: Private = None


class NoteDocument(LenientResource):
    """A note about a contact, private to its author."""

    title: Private = None
    body: Private = None
    remind_at: AwareDatetime | None = None
    contacts: list[str | Json] | None = None


class OrganizationDocument(LenientResource):
    """A tenant."""

    name: str | None = None
    slug: str | None = None
    plan: str | None = None
    stage: str | None = None


class OrganizationInvitationDocument(LenientResource):
    """An invitation into an organization."""

    organization: str | None = None
    email: Private = None
    status: str | None = None
    last_sent_at: AwareDatetime | None = None
    user: str | None = None


class OrganizationMembershipDocument(LenientResource):
    """A user's role in an organization."""

    organization: str | None = None
    role: str | None = None
    user: Json | None = None


class OutgoingCommunicationDocument(LenientResource):
    """A text message that Calendly sent."""

    type: str | None = None
    status: str | None = None


class RoutingFormDocument(LenientResource):
    """A form that leads to an event type."""

    organization: str | None = None
    name: str | None = None
    status: str | None = None
    questions: list[Json] | None = None


class RoutingFormSubmissionDocument(LenientResource):
    """A form that somebody submitted."""

    routing_form: str | None = None
    questions_and_answers: list[Json] | None = None
    tracking: Json | None = None
    result: Json | None = None
    submitter: str | None = None
    submitter_type: str | None = None


class SampleDeliveryDocument(LenientDocument):
    """A delivery as a webhook would bring it; never to be taken for one."""

    event: str | None = None
    created_at: AwareDatetime | None = None
    created_by: str | None = None
    payload: Json | None = None


class ScheduledEventDocument(LenientResource):
    """A booked meeting."""

    name: Private = None
    status: str | None = None
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    event_type: str | None = None
    location: Json | None = None
    invitees_counter: Json | None = None
    event_memberships: list[Json] | None = None
    event_guests: list[Json] | None = None
    calendar_event: Json | None = None
    cancellation: Json | None = None
    meeting_notes_plain: Private = None
    meeting_notes_html: Private = None


class SchedulingLinkDocument(LenientDocument):
    """A link by which something can be booked once."""

    booking_url: SecretStr | None = None
    owner: str | None = None
    owner_type: str | None = None


class ShareDocument(LenientDocument):
    """A link to an event type with settings of its own."""

    scheduling_links: list[Json] | None = Field(None, repr=False)
    share_override: Json | None = None


class TeamDocument(LenientResource):
    """A team of an organization."""

    name: str | None = None
    organization: str | None = None


class UserDocument(LenientResource):
    """A user."""

    name: Private = None
    slug: str | None = None
    email: Private = None
    scheduling_url: str | None = None
    timezone: str | None = None
    avatar_url: str | None = None
    current_organization: str | None = None


class WebhookSubscriptionDocument(LenientResource):
    """A webhook subscription. Its address is a capability."""

    callback_url: SecretStr | None = None
    retry_started_at: AwareDatetime | None = None
    state: str | None = None
    events: list[str] | None = None
    scope: str | None = None
    organization: str | None = None
    user: str | None = None
    group: str | None = None
    creator: str | None = None
