"""What every event we publish is: frozen data with a type and a topic."""

from __future__ import annotations

from typing import ClassVar

from .calendly import Part
from .topics import Topic


class EventData(Part):
    """The data of one event type."""

    type: ClassVar[str]
    """The CloudEvents type, major version last."""
    calendly_event: ClassVar[str | None] = None
    """Calendly's name of the event; None for events that only Slotwire has."""
    topic: ClassVar[Topic]
