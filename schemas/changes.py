"""The event about a change of a scheduled event that Calendly tells nobody of. `events` lists it with all others."""

from __future__ import annotations

from typing import ClassVar

from .calendly import Location, Part, Time
from .event_data import EventData
from .topics import SCHEDULED_EVENT, Topic


class MeetingDetails(Part):
    """What can change of a scheduled event. Only what has changed is there; the rest is null."""

    hosts: list[str] | None = None
    """The URIs of the users that host it, in order."""
    start_time: Time | None = None
    """When it starts."""
    end_time: Time | None = None
    """When it ends."""
    guests: list[str] | None = None
    """The mail addresses of its guests, in order."""
    location: Location | None = None
    """Where it is; null also where there is no place."""


class ScheduledEventChanged(EventData):
    """A scheduled event is not what it was last known to be: it was edited in a calendar or in Calendly.

    Found by comparing, so of several changes between two looks only their sum is told. Cancellations and reschedules
    have events of their own and are not told here.
    """

    type: ClassVar[str] = "io.slotwire.scheduled_event.changed.v1"
    topic: ClassVar[Topic] = SCHEDULED_EVENT

    uri: str
    """The scheduled event's URI."""
    organization: str
    """The organization's URI."""
    changed: list[str]
    """What has changed: of `hosts`, `start_time`, `end_time`, `guests` and `location`."""
    before: MeetingDetails
    """That, as it was last known: from an earlier look, or from the event of its newest booking."""
    after: MeetingDetails
    """That, as it is."""
    change: int
    """The how manieth change of it that is told."""
    updated_at: Time | None = None
    """When Calendly says that it was last changed."""
    noticed_at: Time
    """When it was noticed."""
