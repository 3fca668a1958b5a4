"""A record, independent of the Kafka client's classes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID


class Partition(NamedTuple):
    """A partition of a topic. `topic` is the full name, prefix included."""

    topic: str
    number: int


Lane = bytes
"""A digest of a record's key and the source of its event, as long whatever they are."""
LANE_BYTES = 16
_SEQUENCE = re.compile("[0-9]{1,18}", re.ASCII)


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
        type: the CloudEvents type, unless it has none.
        lane: what comes in order with it: its key, of one organization, since two may be told of the same resource.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    published_at: datetime
    type: str | None = field(init=False, repr=False, compare=False)
    lane: Lane = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find out at once what every record is asked for."""
        kind, source = self.header("ce_type"), self.header("ce_source") or b""
        key = b"-" if self.key is None else b"%d:%b" % (len(self.key), self.key)
        object.__setattr__(self, "type", None if kind is None else kind.decode(errors="replace"))
        object.__setattr__(self, "lane", blake2b(key + source, digest_size=LANE_BYTES).digest())

    def header(self, name: str) -> bytes | None:
        """Return the first value under a name."""
        for each, value in self.headers:
            if each == name and value is not None:
                return value
        return None


@dataclass(frozen=True)
class SetAsideRecord(Record):
    """A record that was set aside while its run waits: its offset has passed, and nothing is settled with it.

    Attributes:
        event_id: its event's.
        place: the offset up to which its partition was read when its run was due to go on.
    """

    event_id: UUID
    place: int

    @classmethod
    def of(cls, record: Record, event_id: UUID, place: int) -> SetAsideRecord:
        """Return a record as one that was set aside."""
        kept = (record.partition, record.offset, record.key, record.value, record.headers, record.published_at)
        return cls(*kept, event_id, place)


class LaneTurn(NamedTuple):
    """A lane's turn to handle what waits in its queue, among the lane's records."""

    partition: Partition
    lane: Lane


def event_id_of(record: Record) -> UUID | None:
    """Return the id of the event that a record says it is; None if it says none."""
    try:
        return UUID((record.header("ce_id") or b"").decode())
    except ValueError:
        return None


def sequence_of(record: Record) -> int | None:
    """Return the position in the log that a record says it has; None if it says none."""
    text = (record.header("ce_sequence") or b"").decode(errors="replace")
    return int(text) if _SEQUENCE.fullmatch(text) else None
