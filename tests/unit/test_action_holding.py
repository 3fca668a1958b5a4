"""How long a limit of Calendly's holds back an action."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slotwire.ingest.control.actions.holding import LONGEST_WAIT, MAX_REFUSALS, Held, held_back

NOW = datetime(2026, 11, 27, tzinfo=UTC)
DAY = 86_402.0


def test_our_own_count_is_believed_to_the_second() -> None:
    """However often it is asked, it is no refusal, and never a person's."""
    held = None
    for _ in range(3 * MAX_REFUSALS):
        held = held_back(DAY, refused=False, before=held, now=NOW)
    assert held == Held(NOW + timedelta(seconds=DAY), 0)
    assert not held.endless


def test_refusals_wait_longer_each_time_for_a_day_at_least() -> None:
    """A minute, two, four … an hour; what Calendly says counts where it is more. After a day it is no known limit."""
    held, now, waits = None, NOW, list[timedelta]()
    while held is None or not held.endless:
        held = held_back(5.0, refused=True, before=held, now=now)
        waits.append(held.until - now)
        now = held.until
    assert [each.total_seconds() / 60 for each in waits[:8]] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert sum(waits[:-1], timedelta()) > timedelta(days=1)
    longer = held_back(7_200.0, refused=True, before=None, now=NOW)
    assert longer.until - NOW > LONGEST_WAIT


def test_what_is_stored_is_what_is_read() -> None:
    """A restart forgets neither when it goes on nor how often it was refused, and our own count does not reset that."""
    held = held_back(60.0, refused=True, before=held_back(60.0, refused=True, before=None, now=NOW), now=NOW)
    assert Held.read(held.stored()) == held
    assert held_back(DAY, refused=False, before=held, now=NOW).refusals == 2
    assert Held.read(None) is None
