"""What the management API takes and gives about bookings."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.models import DeliveryItem, EventItem, Model, Org, Page, PageQuery

MAX_TIMELINE = 500
"""Events, deliveries and bookings that one timeline shows at the most, each."""

State = Literal["named", "active", "canceled"]


class BookingQuery(PageQuery):
    """Which bookings, by their invitees' names."""

    organization: Org | None = None
    """Of one organization."""
    state: State | None = None
    """In one state."""
    waiting: bool = False
    """Only those that wait for the mark of a cleared no-show, or for the other half of a reschedule."""


class TimelineQuery(Model):
    """Which booking."""

    invitee: str = Field(min_length=1, max_length=2000)
    """The invitee's URI at Calendly."""


class MarkItem(Model):
    """A no-show mark."""

    uri: str
    """Calendly's name for it."""
    created_at: datetime
    cleared_at: datetime | None
    """The second at which it was taken away."""


class ClearItem(Model):
    """A no-show mark was taken away; Calendly does not say which."""

    at: datetime
    """The second."""
    delivery_id: UUID
    """The delivery that told it first."""
    alone: bool
    """Whether it was published before its mark was known."""


class BookingItem(Model):
    """What is known of one invitee. Names and addresses are not kept here."""

    invitee: str
    """The invitee's URI at Calendly."""
    organization: str
    """The last segment of Calendly's organization URI."""
    state: State
    """`named`: known from a neighbour in its line only."""
    provider_status: str | None
    """What Calendly said last."""
    revision: int
    """Grows with each change."""
    no_show: bool
    """Whether a no-show mark is set."""
    start_time: datetime | None
    end_time: datetime | None
    hosts: tuple[str, ...]
    """The hosts' URIs at Calendly."""
    location_type: str | None
    booked_at: datetime | None
    """When it was booked, as Calendly says."""
    scheduled_event: str | None
    """The URI at Calendly of what it is a booking of."""
    old_invitees: tuple[str, ...]
    """Whom it replaced: one, more only where payloads contradict each other."""
    new_invitees: tuple[str, ...]
    """Who replaced it."""
    chain_key: str
    """The Kafka key of its events."""
    chain_root: str
    """The oldest known booking of its chain of reschedules."""
    marks: tuple[MarkItem, ...]
    """No-show marks by time."""
    clears: tuple[ClearItem, ...]
    """Cleared no-shows by time."""
    waits_since: datetime | None
    """Since when it waits for the mark of a clear, or for the other half of a reschedule."""
    changed_at: datetime
    """When this was written last."""


class BookingPage(Page):
    """Bookings."""

    items: tuple[BookingItem, ...]


class TimelineEvent(EventItem):
    """An event of a booking, and how far it has come."""

    topic: str | None
    """Its topic, with the prefix of the settings; null for a type this version does not know."""
    revision: int | None
    """The booking's revision that the event tells."""
    progress: Literal["published", "waiting", "parked"]
    """`published` once the relay has told Postgres that it passed it; `parked` when Kafka refused it."""
    parked_reason: str | None


class Timeline(Model):
    """One booking from the POST to the topic."""

    booking: BookingItem
    chain: tuple[BookingItem, ...]
    """Its chain of reschedules, oldest first, including itself."""
    deliveries: tuple[DeliveryItem, ...]
    """What Calendly sent about it, copies included, in the order of arrival."""
    events: tuple[TimelineEvent, ...]
    """Its events, in the order of the log."""
    complete: bool
    """Whether nothing was left out for its length."""
