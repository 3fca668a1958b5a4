"""Models of the management API for events, deliveries, keys and problems. Their docstrings are its documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.ingest.operate.api_keys import MAX_LABEL
from slotwire.ingest.operate.cursors import DEFAULT_PAGE, MAX_CURSOR, MAX_PAGE
from slotwire.ingest.operate.roles import Role

MAX_POSITION = 2**63 - 1

Org = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
"""The last segment of Calendly's organization URI."""
Outcome = Literal["accepted", DeliveryOutcome.STORED, DeliveryOutcome.DUPLICATE, DeliveryOutcome.QUARANTINED]
"""Written out, so that the OpenAPI document shows the values where they are used; `accepted` until it is written."""


class Model(BaseModel):
    """A frozen model that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def encode(model: BaseModel) -> bytes:
    """Write a model as JSON. An event's data is copied byte for byte as it is stored."""
    return orjson.dumps(model.model_dump(), option=orjson.OPT_UTC_Z, default=_other)


def _other(value: object) -> str:
    """Write an id that asyncpg made: a subclass of UUID, which orjson does not recognize."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError


class Page(Model):
    """One page of a list."""

    next_cursor: str | None
    """Send it as `cursor` to get the next page; null on the last page."""


class PageQuery(Model):
    """The page of a list."""

    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE)
    """The most items on the page."""
    cursor: str | None = Field(None, min_length=1, max_length=MAX_CURSOR)
    """`next_cursor` of the previous page."""


class EventQuery(PageQuery):
    """Which events to list, oldest first."""

    organization: Org | None = None
    """Only of this organization."""
    type: str | None = Field(None, min_length=1, max_length=200)
    """Only of this type, for example `com.calendly.invitee.created.v1`."""
    subject: str | None = Field(None, min_length=1, max_length=2000)
    """Only about this invitee or resource, by its URI at Calendly."""
    after: int | None = Field(None, ge=0, le=MAX_POSITION)
    """Only after this position (`sequence` of an event). Cannot be combined with `cursor`."""


class EventItem(Model):
    """An event of the log, without its data."""

    id: UUID
    """The CloudEvents id. The same fact always has the same id."""
    type: str
    """For example `com.calendly.invitee.created.v1`."""
    source: str
    """`/organizations/{org}`."""
    organization: str
    """The last segment of Calendly's organization URI."""
    tenant: str | None
    """The organization's external id when the event was written."""
    subject: str
    """The URI at Calendly of its invitee or resource."""
    time: datetime
    """When it happened, according to Calendly."""
    recorded_at: datetime
    """When it was written to the log."""
    sequence: int
    """Its position in the log. Gaps are normal."""
    shard: int
    """Its shard of the log."""
    key: str
    """Its Kafka key."""
    origin: str
    """How its delivery came in: `webhook`, `backfill`, `reconcile`, `retry` or `own`."""
    inferred: bool
    """Whether it was inferred from a later delivery."""
    delivery_id: UUID | None
    """The delivery that it came from; null if none."""
    traceparent: str | None
    """The trace of the delivery."""


class EventPage(Page):
    """Events of the log."""

    items: tuple[EventItem, ...]


class HandledItem(Model):
    """An agent that has handled an event."""

    agent: str
    """The agent's name."""
    done_at: datetime
    """When its handler's work was committed."""


class EventDetail(EventItem):
    """An event with its data, as in its Kafka record. A record's `ce_dataref` leads here."""

    data: Any
    """The event's data. `type` determines its form."""
    handled: tuple[HandledItem, ...]
    """The agents that have handled it, as long as their inbox is kept."""


class ParkedQuery(PageQuery):
    """Which parked events to list, by id."""

    organization: Org | None = None
    """Only of this organization."""


class ParkedItem(Model):
    """An event that is in the log and not in Kafka, because the broker refused its record."""

    id: UUID
    """The event's id."""
    type: str
    """For example `com.calendly.invitee.created.v1`."""
    organization: str
    """The last segment of Calendly's organization URI."""
    subject: str
    """The URI at Calendly of its invitee or resource."""
    sequence: int
    """Its position in the log."""
    shard: int
    """Its shard of the log."""
    reason: str
    """The broker's reason, for example `message_size_too_large`."""
    parked_at: datetime
    """When the relay went on without it."""


class ParkedPage(Page):
    """Parked events."""

    items: tuple[ParkedItem, ...]


class DeliveryQuery(PageQuery):
    """Which deliveries to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    outcome: Outcome | None = None
    """Only with this outcome."""
    event_id: UUID | None = None
    """Only deliveries of this event."""


class DeliveryItem(Model):
    """A delivery, without its body: a webhook, something read by REST, a retry, or an event of our own."""

    id: UUID
    """Our id. Ids are in the order of arrival."""
    organization: str
    """The last segment of Calendly's organization URI."""
    subscription_id: UUID | None
    """The subscription that it was sent to; null if it was no webhook."""
    origin: str
    """How it came in: `webhook`, `backfill`, `reconcile`, `retry` or `own`."""
    received_at: datetime
    """When it arrived."""
    signed_at: datetime
    """The time in its signature."""
    outcome: Outcome
    """What became of it."""
    event_id: UUID | None
    """The event that it reported; null if it was not understood."""
    event_name: str | None
    """Calendly's name of the event."""
    body_bytes: int
    """The length of its body."""


class DeliveryPage(Page):
    """Deliveries from Calendly."""

    items: tuple[DeliveryItem, ...]


class KeyItem(Model):
    """A key of this API, without its secret part."""

    id: UUID
    role: Role
    organization: str | None
    """The only organization that it may reach; null for all."""
    label: str
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    """When it was last used, to the minute."""


class KeyPage(Page):
    """Keys of this API."""

    items: tuple[KeyItem, ...]


class NewKey(KeyItem):
    """A key that was just made."""

    key: str
    """The key itself. It is shown only this once."""


class KeyRequest(Model):
    """A key to make."""

    role: Role
    organization: Org | None = None
    """The only organization that it may reach; all when left out."""
    label: str = Field("", max_length=MAX_LABEL)
    """What the key is for."""


class Problem(Model):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """A short word for programs."""
    detail: str
    remedy: str | None = None
    """What you can do about it."""
    id: str | None = None
    """The id of the log line, for an error on our side."""
    errors: tuple[str, ...] = ()
    """The fields of the request that are not valid, without their values."""
