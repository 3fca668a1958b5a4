"""What became of a record that was handled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class RecordStatus(Enum):
    """What became of a record that was handled. All but the last are settled: their offsets may be committed."""

    DONE = "done"
    """Its handler has had its effect."""
    FILTERED = "filtered"
    """The handler's filter does not take it."""
    SKIPPED = "skipped"
    """The agent does not handle its type, or had settled the event before."""
    DEAD_LETTERED = "dead_lettered"
    """It was given up and written to the dead letters."""
    POSTPONED = "postponed"
    """It waits in the agent's queue, because its next attempt, or that of one before it in its lane, is far off."""
    SET_ASIDE = "set_aside"
    """Its run waits, and goes on later: its event is stored whole."""
    HELD = "held"
    """Its run waits for a person, or for another version of the agent: its event is stored whole."""
    HANDED_BACK = "handed_back"
    """It is not settled, because the process, the agent or the partition stopped. It will be delivered again."""


@dataclass(frozen=True)
class RecordResult:
    """The result of handling one record.

    Attributes:
        status: what became of it.
        attempts: the runs of its handler that counted.
        reason: why it was given up, else empty.
        pause: of a postponed one: the seconds until its next attempt.
    """

    status: RecordStatus
    attempts: int = 0
    reason: str = ""
    pause: float = 0.0
