"""Ids in order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from slotwire.ingest.foundation.clock import ordered_id

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_they_sort_by_the_millisecond_they_were_made_in() -> None:
    """A thousand ids, a millisecond apart, sort as they were made, as UUIDs and as text; each is of version 7."""
    made = [ordered_id(START + timedelta(milliseconds=at)) for at in range(1000)]
    assert made == sorted(made)
    assert [str(item) for item in made] == sorted(str(item) for item in made)
    assert {(item.version, item.variant) for item in made} == {(7, RFC_4122)}


def test_those_of_one_millisecond_differ() -> None:
    """Nothing of an id but its time can be foretold."""
    assert len({ordered_id(START) for _ in range(1000)}) == 1000
