"""What we publish: one frozen class a type and version. Within a version fields are only added, optional.

The data keeps every field of Calendly's payload in Calendly's words, and adds `booking`: our state after the
join. `@agent.on(InviteeCanceled)` names these classes.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from .calendly import InviteePayload, Part, Time, Uri
from .resources import EventTypePayload, ResourcePayload, RoutingFormSubmissionPayload
from .topics import CONTACT, EVENT_TYPE, INVITEE, MEETING_RECAP, OPERATIONS, ROUTING_FORM, Topic


class BookingState(Part):
    """A booking after the event was joined to what is known of it."""

    state: Literal["active", "canceled"]
    """Ours: never goes back from canceled."""
    revision: int
    """Grows with each change of the booking; gaps are normal."""
    no_show: bool = False
    """Whether a no-show mark is set now."""
    chain_root: str
    """The oldest invitee known of this chain of reschedules."""


class EventData(Part):
    """The data of one event type."""

    type: ClassVar[str]
    """The CloudEvents type, major version last."""
    calendly_event: ClassVar[str | None] = None
    """The name Calendly sends; None for events that are ours."""
    topic: ClassVar[Topic]


class _InviteeEvent(InviteePayload, EventData):
    topic: ClassVar[Topic] = INVITEE

    booking: BookingState
    """Our state of the booking after this event."""


class InviteeCreated(_InviteeEvent):
    """Somebody booked. The first event of every booking's story, inferred where it did not come first."""

    type: ClassVar[str] = "com.calendly.invitee.created.v1"
    calendly_event: ClassVar[str | None] = "invitee.created"


class InviteeCanceled(_InviteeEvent):
    """A booking was cancelled; with `rescheduled` true it moved to `new_invitee`."""

    type: ClassVar[str] = "com.calendly.invitee.canceled.v1"
    calendly_event: ClassVar[str | None] = "invitee.canceled"


class InviteeNoShowCreated(_InviteeEvent):
    """The invitee was marked as a no-show."""

    type: ClassVar[str] = "com.calendly.invitee_no_show.created.v1"
    calendly_event: ClassVar[str | None] = "invitee_no_show.created"


class InviteeNoShowDeleted(_InviteeEvent):
    """A no-show mark was cleared."""

    type: ClassVar[str] = "com.calendly.invitee_no_show.deleted.v1"
    calendly_event: ClassVar[str | None] = "invitee_no_show.deleted"

    cleared_mark: str | None = None
    """The mark that was cleared; null when we never heard of it."""
    cleared_at: Time
    """When it was cleared, to the second."""


class ResourceEvent(EventData):
    """An event about a resource of Calendly's that has no state of ours: what was told is the event.

    `identity` is what tells two events of one name and resource apart, `happened` when it was: names of fields.
    """

    identity: ClassVar[str | None] = None
    happened: ClassVar[str] = "created_at"

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
    """An event type was made."""

    type: ClassVar[str] = "com.calendly.event_type.created.v1"
    calendly_event: ClassVar[str | None] = "event_type.created"


class EventTypeUpdated(_EventTypeEvent):
    """An event type was changed."""

    type: ClassVar[str] = "com.calendly.event_type.updated.v1"
    calendly_event: ClassVar[str | None] = "event_type.updated"
    identity: ClassVar[str | None] = "updated_at"
    happened: ClassVar[str] = "updated_at"


class EventTypeDeleted(_EventTypeEvent):
    """An event type was deleted."""

    type: ClassVar[str] = "com.calendly.event_type.deleted.v1"
    calendly_event: ClassVar[str | None] = "event_type.deleted"
    happened: ClassVar[str] = "deleted_at"


class _ContactEvent(ResourcePayload, ResourceEvent):
    topic: ClassVar[Topic] = CONTACT


class ContactCreated(_ContactEvent):
    """A contact was made."""

    type: ClassVar[str] = "com.calendly.contact.created.v1"
    calendly_event: ClassVar[str | None] = "contact.created"


class ContactUpdated(_ContactEvent):
    """A contact was changed."""

    type: ClassVar[str] = "com.calendly.contact.updated.v1"
    calendly_event: ClassVar[str | None] = "contact.updated"
    identity: ClassVar[str | None] = "updated_at"
    happened: ClassVar[str] = "updated_at"


class ContactDeleted(_ContactEvent):
    """A contact was deleted: a tombstone with little more than `uri` and `deleted_at`."""

    type: ClassVar[str] = "com.calendly.contact.deleted.v1"
    calendly_event: ClassVar[str | None] = "contact.deleted"
    happened: ClassVar[str] = "deleted_at"


class _MeetingRecapEvent(ResourcePayload, ResourceEvent):
    topic: ClassVar[Topic] = MEETING_RECAP


class MeetingRecapCreated(_MeetingRecapEvent):
    """A meeting recap was made."""

    type: ClassVar[str] = "com.calendly.meeting_recap.created.v1"
    calendly_event: ClassVar[str | None] = "meeting_recap.created"


class MeetingRecapUpdated(_MeetingRecapEvent):
    """A meeting recap was changed."""

    type: ClassVar[str] = "com.calendly.meeting_recap.updated.v1"
    calendly_event: ClassVar[str | None] = "meeting_recap.updated"
    identity: ClassVar[str | None] = "updated_at"
    happened: ClassVar[str] = "updated_at"


class MeetingRecapDeleted(_MeetingRecapEvent):
    """A meeting recap was deleted: a tombstone, `uri` and `deleted_at`."""

    type: ClassVar[str] = "com.calendly.meeting_recap.deleted.v1"
    calendly_event: ClassVar[str | None] = "meeting_recap.deleted"
    happened: ClassVar[str] = "deleted_at"


class InviteeRescheduled(EventData):
    """A booking moved: both halves of a reschedule are known. Written once, by us."""

    type: ClassVar[str] = "io.slotwire.invitee.rescheduled.v1"
    topic: ClassVar[Topic] = INVITEE

    uri: str
    """The new invitee."""
    old_invitee: str
    """The invitee it was before; cancelled by this."""
    scheduled_event: str | None = None
    """The new scheduled event."""
    old_scheduled_event: str | None = None
    """The scheduled event it was before."""
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


class ConnectionRevoked(EventData):
    """Calendly does not accept a credential any more. Nothing is done with it until another one is given.

    What Calendly still delivers is taken as before: a subscription does not hang on the credential that made it.
    Written once a credential, by us.
    """

    type: ClassVar[str] = "io.slotwire.connection.revoked.v1"
    topic: ClassVar[Topic] = OPERATIONS

    connection_id: UUID
    """The connection, as `slotwire connections list` names it."""
    credential_id: UUID
    """The credential that was refused; a connection gets another one when it is connected again."""
    organization: str
    """The organization's URI."""
    user: str
    """The URI of the user the connection acts as."""
    kind: str
    """What the credential is: `personal_access_token`."""
    reason: str
    """`refused`: Calendly refused it; `expired`: it refused it, and its time was over."""
    noticed_at: Time
    """When Calendly refused it to us; it may have been revoked earlier."""


EVENT_CLASSES: tuple[type[EventData], ...] = (
    InviteeCreated,
    InviteeCanceled,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
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
)
BY_TYPE: dict[str, type[EventData]] = {cls.type: cls for cls in EVENT_CLASSES}
"""Every published type with its class."""
RESOURCE_EVENTS: dict[str, type[ResourceEvent]] = {
    cls.calendly_event: cls
    for cls in EVENT_CLASSES
    if issubclass(cls, ResourceEvent) and cls.calendly_event is not None
}
"""The events that are what was told, by Calendly's name."""
