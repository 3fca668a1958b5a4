"""A record as the runtime holds it, free of the client's classes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Partition(NamedTuple):
    """A partition of a topic, named in full."""

    topic: str
    number: int


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        partition: where it came from.
        offset: where in it.
        key: as published; records of one key come in order.
        value: the data, or None.
        headers: in their order; a name may occur twice.
        published_at: the time it carries.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    published_at: datetime

    @property
    def type(self) -> str | None:
        """The CloudEvents type, unless the record has none."""
        for name, value in self.headers:
            if name == "ce_type" and value is not None:
                return value.decode(errors="replace")
        return None
