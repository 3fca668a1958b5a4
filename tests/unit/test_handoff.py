"""From the writer to the publisher in memory: only what follows without a gap, and only so much of it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from slotwire.ingest.log.batch import EventRow
from slotwire.ingest.log.writer import Appended
from slotwire.ingest.relay.handoff import MAX_BYTES, MAX_EVENTS, Handoff

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def appended(after: int, *positions: int, size: int = 10) -> Appended:
    """Make an append of events of so many bytes."""
    rows = [
        EventRow(UUID(int=each), "t", "A", "s", "k", NOW, NOW, None, "webhook", False, None, None, b"x" * size)
        for each in positions
    ]
    return Appended(after, rows, positions)


def held(handoff: Handoff, after: int, limit: int = 100) -> list[int] | None:
    """Return the positions that are held after one."""
    found = handoff.after(after, limit)
    return None if found is None else [position for position, _ in found]


def test_what_follows_without_a_gap_is_handed_over() -> None:
    """Positions may have holes, where a copy took one: what counts is the event before each."""
    handoff = Handoff()
    handoff.begin(4)
    handoff.add(appended(4, 5, 8))
    handoff.add(appended(8, 9))
    assert held(handoff, 4, 2) == [5, 8]
    assert held(handoff, 8) == [9]
    assert held(handoff, 9) == []


def test_a_publisher_behind_what_is_held_reads_the_log() -> None:
    """Its cursor is before the first event that is held, or between two that are not neighbours."""
    handoff = Handoff()
    handoff.begin(4)
    handoff.add(appended(4, 5, 8))
    assert held(handoff, 3) is None
    assert held(handoff, 0) is None
    assert held(handoff, 6) is None


def test_an_append_after_an_event_that_is_not_known_lets_go_of_all() -> None:
    """A former leader's event came between: it is in the log, and so is everything else."""
    handoff = Handoff()
    handoff.begin(4)
    handoff.add(appended(4, 5))
    handoff.add(appended(6, 7))
    assert held(handoff, 4) is None
    assert held(handoff, 5) is None
    assert held(handoff, 6) == [7]
    assert handoff.end == 7


def test_a_take_over_lets_go_of_all() -> None:
    """What is in the log at its end is read there."""
    handoff = Handoff()
    handoff.begin(4)
    handoff.add(appended(4, 5))
    handoff.begin(6)
    assert held(handoff, 4) is None
    assert held(handoff, 6) == []


def test_so_many_events_are_held_and_not_one_more() -> None:
    """At the limit they are handed over; one more, and the log is read."""
    handoff = Handoff()
    handoff.add(appended(0, *range(1, MAX_EVENTS + 1)))
    assert len(held(handoff, 0, MAX_EVENTS) or ()) == MAX_EVENTS
    handoff.add(appended(MAX_EVENTS, MAX_EVENTS + 1))
    assert len(handoff) == 0
    assert held(handoff, 0) is None
    assert held(handoff, MAX_EVENTS + 1) == []


def test_so_many_bytes_are_held_and_not_one_more() -> None:
    """The same with bytes; what was published does not count."""
    handoff = Handoff()
    handoff.add(appended(0, 1, size=MAX_BYTES))
    assert held(handoff, 0) == [1]
    assert held(handoff, 1) == []
    handoff.add(appended(1, 2, size=MAX_BYTES))
    assert held(handoff, 1) == [2]
    handoff.add(appended(2, 3, size=1))
    assert held(handoff, 1) is None
