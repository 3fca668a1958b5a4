"""Bookings in the management API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.models import DeliveryItem, EventItem, Model, Org, Page, PageQuery

MAX_TIMELINE = 500
"""The most events, deliveries and bookings, each, that one timeline shows."""

State = Literal["named", "active", "canceled"]


class BookingQuery(PageQuery):
    """Which bookings to list, ordered by invitee URI."""

    organization: Org | None = None
    """Only of this organization."""
    state: State | None = None
    """Only in this state."""
    waiting: bool = False
    """Only bookings that wait for the mark of a cleared no-show, or for the other half of a reschedule."""


class TimelineQuery(Model):
    """Which booking to read."""

    invitee: str = Field(min_length=1, max_length=2000)
    """The invitee's URI at Calendly."""
    organization: Org | None = None
    """Its organization; needed if several were told of this invitee."""


class MarkItem(Model):
    """A no-show mark."""

    uri: str
    """Its URI at Calendly."""
    created_at: datetime
    cleared_at: datetime | None
    """The second at which it was removed."""


class ClearItem(Model):
    """The removal of a no-show mark. Calendly does not say which mark."""

    at: datetime
    """The second at which it was removed."""
    delivery_id: UUID
    """The first delivery that reported it."""
    alone: bool
    """Whether it was published before its mark was known."""


class BookingItem(Model):
    """What is known of one invitee. Names and mail addresses are not stored here."""

    invitee: str
    """The invitee's URI at Calendly."""
    organization: str
    """The last segment of Calendly's organization URI."""
    state: State
    """`named`: only another booking of its chain has mentioned it."""
    provider_status: str | None
    """The status that Calendly reported last."""
    revision: int
    """Increases with each change."""
    no_show: bool
    """Whether a no-show mark is set."""
    start_time: datetime | None
    end_time: datetime | None
    hosts: tuple[str, ...]
    """The hosts' URIs at Calendly."""
    location_type: str | None
    booked_at: datetime | None
    """When it was booked, according to Calendly."""
    scheduled_event: str | None
    """The URI at Calendly of its scheduled event."""
    old_invitees: tuple[str, ...]
    """The invitees that it replaced: one, or more if payloads contradict each other."""
    new_invitees: tuple[str, ...]
    """The invitees that replaced it."""
    chain_key: str
    """The Kafka key of its events."""
    chain_root: str
    """The oldest known booking of its chain of reschedules."""
    marks: tuple[MarkItem, ...]
    """No-show marks, ordered by time."""
    clears: tuple[ClearItem, ...]
    """Removals of no-show marks, ordered by time."""
    waits_since: datetime | None
    """Since when it waits for the mark of a clear or the other half of a reschedule; null if it does not."""
    changed_at: datetime
    """When its row last changed."""


class BookingPage(Page):
    """Bookings."""

    items: tuple[BookingItem, ...]


class TimelineEvent(EventItem):
    """An event of a booking, and its progress."""

    topic: str | None
    """Its topic, with the configured prefix; null for a type that this version does not know."""
    revision: int | None
    """The booking's revision in the event."""
    progress: Literal["published", "waiting", "parked"]
    """`published` once the relay has passed it, `waiting` before that, `parked` if Kafka refused it."""
    parked_reason: str | None


class Timeline(Model):
    """One booking from the POST to the topic."""

    booking: BookingItem
    chain: tuple[BookingItem, ...]
    """Its chain of reschedules, oldest first, including itself."""
    deliveries: tuple[DeliveryItem, ...]
    """Calendly's deliveries about it, copies included, in the order of arrival."""
    events: tuple[TimelineEvent, ...]
    """Its events, in the order of the log."""
    complete: bool
    """Whether everything is shown; false if a part was cut for its length."""
