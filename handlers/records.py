"""A record, independent of the Kafka client's classes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Partition(NamedTuple):
    """A partition of a topic. `topic` is the full name, prefix included."""

    topic: str
    number: int


Lane = tuple[bytes | None, bytes | None]
"""A record's key and the source of its event."""


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        partition: its partition.
        offset: its place in the partition.
        key: as published; records of one key come in order.
        value: the event's data as JSON, or None.
        headers: in their order; a name may occur twice.
        published_at: its timestamp.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    published_at: datetime

    @property
    def lane(self) -> Lane:
        """What comes in order with it: its key, of one organization, since two may be told of the same resource."""
        for name, value in self.headers:
            if name == "ce_source":
                return self.key, value
        return self.key, None

    @property
    def type(self) -> str | None:
        """The CloudEvents type, unless the record has none."""
        for name, value in self.headers:
            if name == "ce_type" and value is not None:
                return value.decode(errors="replace")
        return None
