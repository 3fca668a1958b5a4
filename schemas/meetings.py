"""Events about scheduled events that Calendly tells nobody: they are derived by Slotwire. `events` lists them too."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .calendly import Time
from .event_data import EventData
from .topics import SCHEDULED_EVENT, Topic


class _MeetingEvent(EventData):
    """A moment of a scheduled event, told from what is known of its bookings. Published once for each start.

    One that is canceled or moved before has none at the old time.
    """

    topic: ClassVar[Topic] = SCHEDULED_EVENT

    uri: str
    """The scheduled event's URI."""
    organization: str
    """The organization's URI."""
    start_time: Time
    """When it starts."""
    end_time: Time
    """When it ends."""
    hosts: list[str] = Field(default_factory=list)
    """The URIs of the users that host it."""
    location_type: str | None = None
    """Where it takes place, in Calendly's words."""
    invitees: list[str] = Field(default_factory=list)
    """The URIs of its invitees whose bookings are active, at most 100."""


class MeetingStarting(_MeetingEvent):
    """A scheduled event starts in a short while: the operator has set how long."""

    type: ClassVar[str] = "io.slotwire.meeting.starting.v1"


class MeetingStarted(_MeetingEvent):
    """The start of a scheduled event has come. Whether anybody is there is not known."""

    type: ClassVar[str] = "io.slotwire.meeting.started.v1"


class MeetingEnded(_MeetingEvent):
    """The end of a scheduled event has come."""

    type: ClassVar[str] = "io.slotwire.meeting.ended.v1"
