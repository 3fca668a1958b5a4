"""What the management API takes and gives, as its OpenAPI document says it."""

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
Outcome = Literal[DeliveryOutcome.STORED, DeliveryOutcome.DUPLICATE, DeliveryOutcome.QUARANTINED]
"""Written out, so that the OpenAPI document shows the values where they are used."""


class Model(BaseModel):
    """Frozen, and without room for unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def encode(model: BaseModel) -> bytes:
    """Write a model as JSON; an event's data goes out byte by byte as it is kept."""
    return orjson.dumps(model.model_dump(), option=orjson.OPT_UTC_Z, default=_other)


def _other(value: object) -> str:
    """Write an id as asyncpg makes them: a subclass, which orjson does not take for one."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError


class Page(Model):
    """One page of a list."""

    next_cursor: str | None
    """Give it as `cursor` for the page after this one; null on the last page."""


class PageQuery(Model):
    """How a list is paged."""

    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE)
    """Items of the page."""
    cursor: str | None = Field(None, min_length=1, max_length=MAX_CURSOR)
    """`next_cursor` of the page before."""


class EventQuery(PageQuery):
    """Which events of the log, oldest first."""

    organization: Org | None = None
    """Of one organization."""
    type: str | None = Field(None, min_length=1, max_length=200)
    """Of one type, for example `com.calendly.invitee.created.v1`."""
    subject: str | None = Field(None, min_length=1, max_length=2000)
    """Of one invitee or resource, by its URI at Calendly."""
    after: int | None = Field(None, ge=0, le=MAX_POSITION)
    """After this position (`sequence` of an event); not together with `cursor`."""


class EventItem(Model):
    """An event of the log, without its data."""

    id: UUID
    """The CloudEvents id: the same fact always has the same one."""
    type: str
    """For example `com.calendly.invitee.created.v1`."""
    source: str
    """`/organizations/{org}`."""
    organization: str
    """The last segment of Calendly's organization URI."""
    tenant: str | None
    """The organization's external id when the event was written."""
    subject: str
    """The URI at Calendly of what it is about; the invitee for events of an invitee."""
    time: datetime
    """When it happened, as far as Calendly says."""
    recorded_at: datetime
    """When it was written to the log."""
    sequence: int
    """Its position in the log; gaps are normal."""
    shard: int
    """The shard of the log."""
    key: str
    """The Kafka key."""
    inferred: bool
    """Whether it was concluded from a later event."""
    delivery_id: UUID | None
    """The delivery it came from."""
    traceparent: str | None
    """The trace of the delivery."""


class EventPage(Page):
    """Events of the log."""

    items: tuple[EventItem, ...]


class EventDetail(EventItem):
    """An event with its data, as it is (or would be) in Kafka's record. A record's `ce_dataref` leads here."""

    data: Any
    """The event's data; its form follows from `type`."""


class DeliveryQuery(PageQuery):
    """Which deliveries, newest first."""

    organization: Org | None = None
    """Of one organization."""
    outcome: Outcome | None = None
    """What became of them."""
    event_id: UUID | None = None
    """Those that told of one event."""


class DeliveryItem(Model):
    """One authentic POST from Calendly, without its body."""

    id: UUID
    """Ours; in the order of arrival."""
    organization: str
    """The last segment of Calendly's organization URI."""
    subscription_id: UUID
    """The subscription whose address it came to."""
    received_at: datetime
    """When its first octet came."""
    signed_at: datetime
    """The signature's time."""
    outcome: Outcome
    """What became of it."""
    event_id: UUID | None
    """The event it told of, if it was understood."""
    event_name: str | None
    """Calendly's name for what happened."""
    body_bytes: int
    """How long the body is."""


class DeliveryPage(Page):
    """Deliveries from Calendly."""

    items: tuple[DeliveryItem, ...]


class KeyItem(Model):
    """A key of this API, without the key."""

    id: UUID
    role: Role
    organization: str | None
    """The one organization it reaches; null for all."""
    label: str
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""


class KeyPage(Page):
    """Keys of this API."""

    items: tuple[KeyItem, ...]


class NewKey(KeyItem):
    """A key that was just made."""

    key: str
    """The key itself, shown this once."""


class KeyRequest(Model):
    """A key to make."""

    role: Role
    organization: Org | None = None
    """The one organization it may reach; all when left out."""
    label: str = Field("", max_length=MAX_LABEL)
    """What it is for."""


class Problem(Model):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """A short word for programs."""
    detail: str
    remedy: str | None = None
    """What to do about it."""
    id: str | None = None
    """Names the log line of an error on our side."""
    errors: tuple[str, ...] = ()
    """Where the request does not fit, without its values."""
