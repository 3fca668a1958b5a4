"""When users can be booked: the records of the compacted topic `slotwire.availability`.

A record's key is the user and the event type, its value what was last read at Calendly, as JSON; the last record of a
key counts. A record without a value is a tombstone: the event type is gone, or nobody can read it any more.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .calendly import Time, Uri, Whole


class _AvailabilityPart(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class OpenSlot(_AvailabilityPart):
    """A time at which an event type can be booked."""

    start_time: Time
    """When it begins."""
    invitees_remaining: Whole | None = None
    """How many places it has."""


class BusyTime(_AvailabilityPart):
    """A time at which a user is not free."""

    start_time: Time
    """When it begins, with the buffer before it."""
    end_time: Time
    """When it ends, with the buffer after it."""
    type: str | None = None
    """`calendly`: a meeting of Calendly's; `external`: an entry of another calendar; `reserved`: held for somebody."""


class Availability(_AvailabilityPart):
    """When a user can be booked for an event type: the value of a record."""

    organization: Uri
    """The organization's URI."""
    user: Uri
    """The user's URI; of an event type that belongs to a team, the team's."""
    event_type: Uri
    """The event type's URI."""
    read_at: Time
    """When Calendly said so. What has not changed since is not published again."""
    ends: Time
    """Nothing is known of what begins at this time or later."""
    slots: tuple[OpenSlot, ...] = Field(())
    """When the event type can be booked, in order."""
    busy: tuple[BusyTime, ...] = Field(())
    """When the user is not free, in order; of a team's event type nothing."""


def key_of(user: str, event_type: str) -> bytes:
    """Return the key of a record: both URIs, with a space between them."""
    return f"{user} {event_type}".encode()


def read_key(key: bytes) -> tuple[str, str]:
    """Return the user and the event type of a key."""
    user, _, event_type = key.decode().partition(" ")
    return user, event_type
