"""The truth table of no-show marks and clears, row by row."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from slotwire.ingest.log.booking import Booking, Clear, Mark, Settlement, settlement
from slotwire.ingest.log.join import join_invitee
from slotwire.ingest.log.normalize import InviteeEvent
from slotwire.schemas.calendly import NoShow
from tests.support.booking_histories import fact, invitee, payload_of

_SET_AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
_NOW, _BEFORE = _SET_AT + timedelta(minutes=1), _SET_AT + timedelta(minutes=2)
_URI = "https://api.calendly.com/invitee_no_shows/N"
ROWS = re.findall(r"^ *\| (none|alone|own) +\| (\w+) +\| (\w+) +\|$", settlement.__doc__ or "", re.MULTILINE)


def booking(before: str, now: str) -> Booking:
    """Make a booking whose mark and clears are as a row of the table says; the clear of `now` is the earlier one."""
    clears = [] if now in {"none", "same"} else [Clear(_NOW, UUID(int=1), 1, alone=now == "alone")]
    if before != "none":
        clears.append(Clear(_BEFORE, UUID(int=2), 2, alone=before == "alone"))
    mark = Mark(_URI, _SET_AT, None if before == "none" else _BEFORE)
    name = invitee("a")
    return Booking(name, "A", name, name, revision=3, state="active", marks=(mark,), clears=tuple(clears))


def test_the_table_is_whole() -> None:
    """The docstring's table has each combination once: three states before, and all that can be there now."""
    possible = {(before, now) for before in ("none", "alone", "own") for now in ("own", "alone")}
    assert sorted(row[:2] for row in ROWS) == sorted(possible | {("none", "none"), ("alone", "same"), ("own", "same")})


@pytest.mark.parametrize(("before", "now", "follows"), ROWS)
def test_a_row_of_the_table(before: str, now: str, follows: str) -> None:
    """The function decides what the row says."""
    row = booking(before, now)
    assert settlement(row, row.marks[0]) is Settlement(follows)


@pytest.mark.parametrize(("before", "now", "follows"), ROWS)
def test_the_join_does_what_the_row_says(before: str, now: str, follows: str) -> None:
    """A copy of the mark publishes, records or changes nothing, as the row says."""
    row = booking(before, now)
    mark = NoShow(uri=_URI, created_at=_SET_AT)
    copy = fact(InviteeEvent.NO_SHOW_CREATED, row.invitee, 0, payload=payload_of(updated=None, mark=mark))
    joined = join_invitee(copy, {row.invitee: row})
    published = [event for event in joined.events if event.data.type == "com.calendly.invitee_no_show.deleted.v1"]
    after = joined.bookings.get(row.invitee, row).marks[0].cleared_at
    assert bool(published) == (follows == "published")
    assert after == (row.marks[0].cleared_at if follows == "unchanged" else _NOW)
