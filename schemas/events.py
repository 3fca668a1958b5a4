"""The events we publish: one frozen class per type and version. Within a version only optional fields are added.

The data has every field of Calendly's payload in Calendly's words, and adds `booking`: our state of the booking after
the join. Handlers are registered for these classes: `@agent.on(InviteeCanceled)`.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from .calendly import InviteePayload, Part, Time, Uri
from .resources import EventTypePayload, ResourcePayload, RoutingFormSubmissionPayload
from .topics import CONTACT, EVENT_TYPE, INVITEE, MEETING_RECAP, OPERATIONS, ROUTING_FORM, Topic


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


class EventData(Part):
    """The data of one event type."""

    type: ClassVar[str]
    """The CloudEvents type, major version last."""
    calendly_event: ClassVar[str | None] = None
    """Calendly's name of the event; None for events that only Slotwire has."""
    topic: ClassVar[Topic]


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


class _ConnectionEvent(EventData):
    """Something about a connection. Published once for each change, by Slotwire."""

    topic: ClassVar[Topic] = OPERATIONS

    connection_id: UUID
    """The connection, as `slotwire connections list` names it."""
    credential_id: UUID
    """Its credential; a connection has another one after it was connected again, or refreshed."""
    organization: str
    """The organization's URI."""
    user: str
    """The URI of the user the connection acts as."""
    kind: str
    """The kind of credential: `personal_access_token` or `oauth`."""


class ConnectionConnected(_ConnectionEvent):
    """A user was connected for the first time."""

    type: ClassVar[str] = "io.slotwire.connection.connected.v1"

    role: str | None = None
    """The user's role in the organization: `owner`, `admin` or `user`; null if Calendly did not say."""
    connected_at: Time
    """When that was."""


class ConnectionExpiring(_ConnectionEvent):
    """The end of a credential comes near. It still works."""

    type: ClassVar[str] = "io.slotwire.connection.expiring.v1"

    expires_at: Time | None = None
    """When it ends."""
    noticed_at: Time
    """When that was noticed."""


class ConnectionRestored(_ConnectionEvent):
    """A connection that could not act, or was about to end, is active again."""

    type: ClassVar[str] = "io.slotwire.connection.restored.v1"

    restored_at: Time
    """When that was noticed."""


class ConnectionRevoked(_ConnectionEvent):
    """A connection cannot act any more: Calendly no longer accepts its credential, or it was disconnected.

    Deliveries continue: a subscription does not depend on the credential that created it. Published once per
    credential, by Slotwire, and once for each other change to a state in which it cannot act.
    """

    type: ClassVar[str] = "io.slotwire.connection.revoked.v1"

    reason: str
    """`refused`: Calendly refused it; `expired`: Calendly refused it after its end of validity; `disconnected`: it was
    ended here; others are in docs/reference/states.md."""
    noticed_at: Time
    """When that was noticed; it may have been revoked earlier."""
    state: str | None = None
    """The connection's state from now on: `revoked`, `needs_reauth` or `error`; null in events of earlier versions."""
    reconnect_url: str | None = None
    """A link under which the customer connects again, if the connection was made by OAuth: send it to nobody else."""


class SubscriptionDisabled(EventData):
    """Nothing comes over a webhook subscription any more: Calendly has disabled it, or does not have it.

    Slotwire makes a new one by itself. Published once per subscription, by Slotwire.
    """

    type: ClassVar[str] = "io.slotwire.subscription.disabled.v1"
    topic: ClassVar[Topic] = OPERATIONS

    subscription_id: UUID
    """The subscription, as `slotwire subscriptions list` names it."""
    organization: str
    """The organization's URI."""
    scope: str
    """`organization`, `user` or `group`."""
    subject: str | None = None
    """The URI of the user or group; null for the whole organization."""
    events: list[str]
    """What it was subscribed to, by Calendly's names."""
    reason: str
    """`disabled`: Calendly gave it up after 24 h of failures; `gone`: Calendly does not have it any more, because
    somebody deleted it, or a delivery was answered 410."""
    retry_started_at: Time | None = None
    """Since when deliveries failed, as far as Calendly said."""
    last_delivery_at: Time | None = None
    """When the last delivery came over it, as far as is known."""
    noticed_at: Time
    """When Slotwire noticed it."""


class SubscriptionRestored(EventData):
    """The place of a subscription that was disabled or gone is served again. Published once for each, by Slotwire.

    Deliveries of the time in between are not sent again by Calendly.
    """

    type: ClassVar[str] = "io.slotwire.subscription.restored.v1"
    topic: ClassVar[Topic] = OPERATIONS

    subscription_id: UUID
    """The subscription that serves the place now."""
    replaces: UUID
    """The one that was disabled or gone."""
    organization: str
    """The organization's URI."""
    scope: str
    """`organization`, `user` or `group`."""
    subject: str | None = None
    """The URI of the user or group; null for the whole organization."""
    events: list[str]
    """What it is subscribed to, by Calendly's names."""
    missing_events: list[str]
    """Wanted events that it does not have, because the plan or the token's scopes do not allow them."""
    lost_at: Time
    """When it was noticed that the earlier one was disabled or gone."""
    restored_at: Time
    """When it was seen that this one serves."""


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
    SubscriptionDisabled,
    SubscriptionRestored,
    ConnectionConnected,
    ConnectionExpiring,
    ConnectionRestored,
)
BY_TYPE: dict[str, type[EventData]] = {cls.type: cls for cls in EVENT_CLASSES}
"""Every published type with its class."""
RESOURCE_EVENTS: dict[str, type[ResourceEvent]] = {
    cls.calendly_event: cls
    for cls in EVENT_CLASSES
    if issubclass(cls, ResourceEvent) and cls.calendly_event is not None
}
"""The events whose payload is the event, by Calendly's name."""
