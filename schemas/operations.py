"""Events about Slotwire itself: its connections, subscriptions and actions. `events` lists them with all others."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from .calendly import Time
from .event_data import EventData
from .topics import OPERATIONS, Topic


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


class ActionSettled(EventData):
    """It is known what became of an action, or that only a person can tell. Published by Slotwire, once for each time.

    An action that was `not_seen` or with a person may be settled again; the last event counts.
    """

    type: ClassVar[str] = "io.slotwire.action.settled.v1"
    topic: ClassVar[Topic] = OPERATIONS

    action_id: UUID
    """The action, as `slotwire actions list` names it."""
    organization: str
    """The organization's URI."""
    verb: str
    """`book`, `cancel`, `reschedule`, `mark_no_show` or `clear_no_show`."""
    state: str
    """`done`, `probable`, `done_by_other`, `refused`, `not_seen`, `person` or `not_done`: docs/reference/states.md."""
    reason: str | None = None
    """Why it is not done, in a short word; null where it is."""
    evidence: str | None = None
    """What showed its effect: `answer`, `webhook`, `read` or `person`; null where none was seen."""
    caller: str
    """Who asked for it: the id of a key of the management API, or another name."""
    idempotency_key: str
    """The caller's key for it."""
    user: str
    """The URI of the user it acted as."""
    target: str
    """The URI of what it was done to: an event type, a scheduled event, an invitee or a no-show mark."""
    invitee: str | None = None
    """The invitee that it made, or that it was about."""
    scheduled_event: str | None = None
    """That invitee's scheduled event."""
    mark: str | None = None
    """The no-show mark that it set or cleared."""
    intended_at: Time
    """When its intent was committed, before the call."""
    settled_at: Time
    """When this was found out."""
    settlement: int
    """How often it was settled, this time included."""
