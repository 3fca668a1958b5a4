"""What refusals cost a key whose changes are refused again and again. `foundation/refused_addresses.py` is of senders.

A key's first refused changes have a row of the audit each. More of them are counted, and the counts become rows of
their own (`times`), so that nobody can fill a table from which nothing is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from slotwire.ingest.operate.roles import Principal

ROWS = 30
"""Refused changes of one key that get a row each before they are counted."""
ROW_SECONDS = 10.0
"""After this time a key gets one more row of its own."""
MAX_COUNTS = 10_000
"""Different refusals that are counted until their rows are written; another one gets its own row."""


class Refusal(NamedTuple):
    """What refused changes are counted by."""

    key_id: UUID
    role: str
    org: str | None
    action: str
    code: str


@dataclass(slots=True)
class RefusedChanges:
    """Gives each key's refused changes rows of the audit, a few at once and then one now and then, and counts the rest.

    Attributes:
        rows: how many at once.
        now: the monotonic time in seconds.
    """

    rows: int = ROWS
    now: Callable[[], float] = time.monotonic
    _left: dict[UUID, tuple[float, float]] = field(default_factory=dict)
    _counts: dict[Refusal, int] = field(default_factory=dict)

    def has_room(self, who: Principal) -> bool:
        """Return whether a refusal of this caller would have a row of its own. Callers without a key always have."""
        return who.key_id is None or self._room(who.key_id) >= 1

    def take(self, who: Principal) -> None:
        """Note that a refusal of this caller got a row of its own."""
        if who.key_id is not None:
            self._left[who.key_id] = (self._room(who.key_id) - 1, self.now())

    def count(self, who: Principal, org: str | None, action: str, code: str) -> bool:
        """Count a refusal that gets no row of its own; return False if there is no room to count it."""
        if who.key_id is None:
            return False
        refusal = Refusal(who.key_id, who.role, org, action, code)
        if refusal not in self._counts and len(self._counts) >= MAX_COUNTS:
            return False
        self._counts[refusal] = self._counts.get(refusal, 0) + 1
        return True

    def take_counts(self) -> Mapping[Refusal, int]:
        """Return what was counted, and begin again."""
        counted, self._counts = self._counts, {}
        return counted

    def put_back(self, counted: Mapping[Refusal, int]) -> None:
        """Add counts again whose rows could not be written."""
        for refusal, times in counted.items():
            self._counts[refusal] = self._counts.get(refusal, 0) + times

    def _room(self, key_id: UUID) -> float:
        left, at = self._left.get(key_id, (float(self.rows), 0.0))
        room = min(float(self.rows), left + (self.now() - at) / ROW_SECONDS)
        if room >= self.rows:
            self._left.pop(key_id, None)
        return room
