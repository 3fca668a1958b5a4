"""Availability in the management API."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.schemas.availability import BusyTime, OpenSlot


class AvailabilityQuery(PageQuery):
    """Whose availability to list, ordered by organization, user and event type."""

    organization: Org | None = None
    """Only of this organization."""
    user: str | None = Field(None, min_length=1, max_length=2_000)
    """Only of this user, by the URI at Calendly."""
    event_type: str | None = Field(None, min_length=1, max_length=2_000)
    """Only of this event type, by the URI at Calendly."""


class AvailabilityItem(Model):
    """When a user can be booked for an event type, as the agent `availability-sync` last read it at Calendly."""

    organization: str
    """The last segment of Calendly's organization URI."""
    user: str
    """The user's URI at Calendly, or that of a team."""
    event_type: str
    """The event type's URI at Calendly."""
    read_at: datetime | None
    """When Calendly said so; null: it was not read yet."""
    changed_since: datetime | None
    """Since when something says that it has changed, and it was not read again."""
    ends: datetime | None
    """Nothing is known of what begins at this time or later."""
    slots: tuple[OpenSlot, ...]
    """When the event type can be booked."""
    busy: tuple[BusyTime, ...]
    """When the user is not free."""
    gone: bool
    """Whether it has ended, and the topic does not say so yet."""
    published: bool
    """Whether the topic `slotwire.availability` has it as it is here."""
    writer: str
    """Which process wrote it last."""


class AvailabilityPage(Page):
    """Availability."""

    items: tuple[AvailabilityItem, ...]
