"""The events we publish: one frozen class per type and version. Within a version only optional fields are added.

The data has every field of Calendly's payload in Calendly's words, and adds `booking`: our state of the booking after
the join. Handlers are registered for these classes: `@agent.on(InviteeCanceled)`.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from .calendly import InviteePayload, Part, Time, Uri
from .changes import MeetingDetails, ScheduledEventChanged
from .event_data import EventData
from .meetings import MeetingEnded, MeetingStarted, MeetingStarting
from .operations import (
    ActionSettled,
    ConnectionConnected,
    ConnectionExpiring,
    ConnectionRestored,
    ConnectionRevoked,
    SubscriptionDisabled,
    SubscriptionRestored,
)
from .resources import EventTypePayload, ResourcePayload, RoutingFormSubmissionPayload
from .topics import CONTACT, EVENT_TYPE, INVITEE, MEETING_RECAP, ROUTING_FORM, Topic

__all__ = [
    "BY_TYPE",
    "EVENT_CLASSES",
    "RESOURCE_EVENTS",
    "ActionSettled",
    "BookingState",
    "ConnectionConnected",
    "ConnectionExpiring",
    "ConnectionRestored",
    "ConnectionRevoked",
    "ContactCreated",
    "ContactDeleted",
    "ContactUpdated",
    "EventData",
    "EventTypeCreated",
    "EventTypeDeleted",
    "EventTypeUpdated",
    "InviteeCanceled",
    "InviteeCreated",
    "InviteeErased",
    "InviteeNoShowCreated",
    "InviteeNoShowDeleted",
    "InviteeRescheduled",
    "MeetingDetails",
    "MeetingEnded",
    "MeetingRecapCreated",
    "MeetingRecapDeleted",
    "MeetingRecapUpdated",
    "MeetingStarted",
    "MeetingStarting",
    "ResourceEvent",
    "RoutingFormSubmissionCreated",
    "ScheduledEventChanged",
    "SubscriptionDisabled",
    "SubscriptionRestored",
]


class BookingState(Part):
    """The state of a booking after this event."""

    state: Literal["active", "canceled"]
    """Slotwire's state: a canceled booking never becomes active again."""
    revision: int
    """Grows with each change of the booking; gaps are normal."""
    no_show: bool = False
    """Whether a no-show mark is set now."""
    chain_root: str
    """The oldest invitee known of this chain of reschedules."""


class _InviteeEvent(InviteePayload, EventData):
    topic: ClassVar[Topic] = INVITEE

    booking: BookingState
    """Our state of the booking after this event."""


class InviteeCreated(_InviteeEvent):
    """An invitee booked a meeting. The first event of every booking; inferred if its delivery did not come first."""

    type: ClassVar[str] = "com.calendly.invitee.created.v1"
    calendly_event: ClassVar[str | None] = "invitee.created"


class InviteeCanceled(_InviteeEvent):
    """A booking was cancelled; with `rescheduled` true it moved to `new_invitee`."""

    type: ClassVar[str] = "com.calendly.invitee.canceled.v1"
    calendly_event: ClassVar[str | None] = "invitee.canceled"

    part_of_action: UUID | None = None
    """The action that rescheduled this booking by making a new one, and cancelled this; null for all others."""


class InviteeNoShowCreated(_InviteeEvent):
    """The invitee was marked as a no-show."""

    type: ClassVar[str] = "com.calendly.invitee_no_show.created.v1"
    calendly_event: ClassVar[str | None] = "invitee_no_show.created"


class InviteeNoShowDeleted(_InviteeEvent):
    """A no-show mark was cleared."""

    type: ClassVar[str] = "com.calendly.invitee_no_show.deleted.v1"
    calendly_event: ClassVar[str | None] = "invitee_no_show.deleted"

    cleared_mark: str | None = None
    """The URI of the mark that was cleared; null when Slotwire never received the mark."""
    cleared_at: Time
    """When it was cleared, to the second."""


class ResourceEvent(EventData):
    """An event about a resource of which Slotwire stores no state: the payload is the event.

    `repeats` says whether there can be several events of this name about one resource; then their ids depend on
    `updated_at` and on what the payload says. `happened` names the field with the time at which it happened. `beside`
    names fields that REST adds to what webhooks send: ids do not depend on them.
    """

    repeats: ClassVar[bool] = False
    happened: ClassVar[str] = "created_at"
    beside: ClassVar[frozenset[str]] = frozenset()

    uri: Uri
    """The resource."""


class RoutingFormSubmissionCreated(RoutingFormSubmissionPayload, ResourceEvent):
    """A routing form was submitted, booked or not."""

    type: ClassVar[str] = "com.calendly.routing_form_submission.created.v1"
    calendly_event: ClassVar[str | None] = "routing_form_submission.created"
    topic: ClassVar[Topic] = ROUTING_FORM


class _EventTypeEvent(EventTypePayload, ResourceEvent):
    topic: ClassVar[Topic] = EVENT_TYPE


class EventTypeCreated(_EventTypeEvent):
    """An event type was created."""

    type: ClassVar[str] = "com.calendly.event_type.created.v1"
    calendly_event: ClassVar[str | None] = "event_type.created"


class EventTypeUpdated(_EventTypeEvent):
    """An event type was changed."""

    type: ClassVar[str] = "com.calendly.event_type.updated.v1"
    calendly_event: ClassVar[str | None] = "event_type.updated"
    repeats: ClassVar[bool] = True
    happened: ClassVar[str] = "updated_at"


class EventTypeDeleted(_EventTypeEvent):
    """An event type was deleted."""

    type: ClassVar[str] = "com.calendly.event_type.deleted.v1"
    calendly_event: ClassVar[str | None] = "event_type.deleted"
    happened: ClassVar[str] = "deleted_at"


class _ContactEvent(ResourcePayload, ResourceEvent):
    topic: ClassVar[Topic] = CONTACT
    beside: ClassVar[frozenset[str]] = frozenset({"app_url"})


class ContactCreated(_ContactEvent):
    """A contact was created."""

    type: ClassVar[str] = "com.calendly.contact.created.v1"
    calendly_event: ClassVar[str | None] = "contact.created"


class ContactUpdated(_ContactEvent):
    """A contact was changed."""

    type: ClassVar[str] = "com.calendly.contact.updated.v1"
    calendly_event: ClassVar[str | None] = "contact.updated"
    repeats: ClassVar[bool] = True
    happened: ClassVar[str] = "updated_at"


class ContactDeleted(_ContactEvent):
    """A contact was deleted: a tombstone with little more than `uri` and `deleted_at`."""

    type: ClassVar[str] = "com.calendly.contact.deleted.v1"
    calendly_event: ClassVar[str | None] = "contact.deleted"
    happened: ClassVar[str] = "deleted_at"


class _MeetingRecapEvent(ResourcePayload, ResourceEvent):
    topic: ClassVar[Topic] = MEETING_RECAP


class MeetingRecapCreated(_MeetingRecapEvent):
    """A meeting recap was created."""

    type: ClassVar[str] = "com.calendly.meeting_recap.created.v1"
    calendly_event: ClassVar[str | None] = "meeting_recap.created"


class MeetingRecapUpdated(_MeetingRecapEvent):
    """A meeting recap was changed."""

    type: ClassVar[str] = "com.calendly.meeting_recap.updated.v1"
    calendly_event: ClassVar[str | None] = "meeting_recap.updated"
    repeats: ClassVar[bool] = True
    happened: ClassVar[str] = "updated_at"


class MeetingRecapDeleted(_MeetingRecapEvent):
    """A meeting recap was deleted: a tombstone, `uri` and `deleted_at`."""

    type: ClassVar[str] = "com.calendly.meeting_recap.deleted.v1"
    calendly_event: ClassVar[str | None] = "meeting_recap.deleted"
    happened: ClassVar[str] = "deleted_at"


class InviteeRescheduled(EventData):
    """A booking moved: both halves of a reschedule are known. Published once, by Slotwire."""

    type: ClassVar[str] = "io.slotwire.invitee.rescheduled.v1"
    topic: ClassVar[Topic] = INVITEE

    uri: str
    """The new invitee."""
    old_invitee: str
    """The invitee before the move, cancelled by it."""
    scheduled_event: str | None = None
    """The new scheduled event."""
    old_scheduled_event: str | None = None
    """The scheduled event before the move."""
    start_time: Time | None = None
    """When the new one starts."""
    end_time: Time | None = None
    """When the new one ends."""
    old_start_time: Time | None = None
    """When the old one would have started."""
    old_end_time: Time | None = None
    """When the old one would have ended."""
    booking: BookingState
    """The new invitee's booking."""


class InviteeErased(EventData):
    """A person was erased, and this was one of their invitees. Erase what you store of it; its URI stays what it is."""

    type: ClassVar[str] = "io.slotwire.invitee.erased.v1"
    topic: ClassVar[Topic] = INVITEE

    uri: str
    """The invitee."""
    organization: str
    """The organization's URI."""
    erasure_id: UUID
    """The erasure, which may have several invitees."""
    erased_at: Time
    """When it ended here. Records in Kafka stay until their retention."""


EVENT_CLASSES: tuple[type[EventData], ...] = (
    InviteeCreated,
    InviteeCanceled,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
    InviteeErased,
    RoutingFormSubmissionCreated,
    EventTypeCreated,
    EventTypeUpdated,
    EventTypeDeleted,
    ContactCreated,
    ContactUpdated,
    ContactDeleted,
    MeetingRecapCreated,
    MeetingRecapUpdated,
    MeetingRecapDeleted,
    ConnectionRevoked,
    SubscriptionDisabled,
    SubscriptionRestored,
    ConnectionConnected,
    ConnectionExpiring,
    ConnectionRestored,
    ActionSettled,
    MeetingStarting,
    MeetingStarted,
    MeetingEnded,
    ScheduledEventChanged,
)
BY_TYPE: dict[str, type[EventData]] = {cls.type: cls for cls in EVENT_CLASSES}
"""Every published type with its class."""
RESOURCE_EVENTS: dict[str, type[ResourceEvent]] = {
    cls.calendly_event: cls
    for cls in EVENT_CLASSES
    if issubclass(cls, ResourceEvent) and cls.calendly_event is not None
}
"""The events whose payload is the event, by Calendly's name."""
