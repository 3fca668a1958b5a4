"""Availability: what is read next, what an answer says, and what of it is news."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slotwire.handlers.agents.availability_sync.reading import (
    MAX_SLOTS,
    Known,
    Offer,
    bounded,
    busy_in,
    differs,
    due,
    ends_after,
    offers_in,
    slots_in,
    weeks_of,
)
from slotwire.ingest.foundation.agent_settings import AvailabilitySettings
from slotwire.schemas.availability import BusyTime, OpenSlot, key_of, read_key

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
AT = "https://api.calendly.com"
ZOE, YAN, TEAM = f"{AT}/users/ZOE", f"{AT}/users/YAN", f"{AT}/teams/SALES"
SETTINGS = AvailabilitySettings(days=14, refresh_minutes=30, calls_a_round=6)


def offer(user: str, name: str) -> Offer:
    """Make the key of an event type."""
    return Offer(user, f"{AT}/event_types/{name}")


def read(of: Offer, minutes_ago: int, **more: Any) -> Known:
    """Make what was read a while ago."""
    return replace(Known(of, ends_after(NOW, 14), read_at=NOW - timedelta(minutes=minutes_ago)), **more)


def test_what_is_due_comes_in_order_and_within_the_budget() -> None:
    """Never read, then changed, then old; a user's busy times are paid for once; what is gone or fresh is not read."""
    known = [
        read(offer(ZOE, "fresh"), 29),
        read(offer(ZOE, "old"), 30),
        read(offer(ZOE, "changed"), 1, due_since=NOW - HOUR),
        Known(offer(YAN, "new")),
        Known(offer(YAN, "gone"), gone=True),
        read(offer(TEAM, "older"), 60),
    ]
    assert due(known, SETTINGS, NOW) == (offer(YAN, "new"), offer(ZOE, "changed"))  # 1 + 2 weeks, and again: 6 calls
    more = SETTINGS.model_copy(update={"calls_a_round": 8})
    assert due(known, more, NOW)[2:] == (offer(TEAM, "older"), offer(ZOE, "old"))  # one each: a team has no busy times
    assert due([Known(offer(ZOE, "first"))], SETTINGS.model_copy(update={"calls_a_round": 1}), NOW)


def test_only_what_is_to_come_is_news() -> None:
    """A slot that passes is no news; one that goes, comes or loses a place is; so are busy times and a later end."""
    slots = tuple(OpenSlot(start_time=NOW + n * HOUR, invitees_remaining=1) for n in (-1, 1, 2))
    busy = tuple(BusyTime(start_time=NOW + n * HOUR, end_time=NOW + (n + 1) * HOUR) for n in (-2, 3))
    old = read(offer(ZOE, "a"), 10, slots=slots, busy=busy)
    assert not differs(old, replace(old, slots=slots[1:], busy=busy[1:], read_at=NOW), NOW)
    assert differs(old, replace(old, slots=slots[2:]), NOW)
    assert differs(old, replace(old, slots=(*slots[:2], slots[2].model_copy(update={"invitees_remaining": 3}))), NOW)
    assert differs(old, replace(old, busy=()), NOW)
    assert differs(old, replace(old, ends=old.ends and old.ends + 24 * HOUR), NOW)
    assert differs(replace(old, gone=True), old, NOW)
    assert differs(Known(old.offer), replace(old, slots=(), busy=()), NOW)


def test_too_much_is_cut_and_the_end_says_so() -> None:
    """At the bound everything is kept; one more slot, and all is known up to that one only."""
    slots = tuple(OpenSlot(start_time=NOW + n * timedelta(minutes=5)) for n in range(MAX_SLOTS + 1))
    late = BusyTime(start_time=slots[-1].start_time, end_time=slots[-1].start_time + HOUR)
    known = read(offer(ZOE, "a"), 0, slots=slots[:-1], busy=(late,))
    assert bounded(known) == known
    cut = bounded(replace(known, slots=slots))
    assert (cut.slots, cut.busy, cut.ends) == (slots[:-1], (), slots[-1].start_time)


def test_answers_are_read_as_calendly_gives_them() -> None:
    """Inactive and deleted event types are no offers; slots are in order and once; buffers count as busy."""
    kinds = [
        {"uri": f"{AT}/event_types/a", "active": True, "deleted_at": None, "profile": {"type": "User", "owner": ZOE}},
        {"uri": f"{AT}/event_types/b", "active": False, "deleted_at": None, "profile": {"type": "User", "owner": ZOE}},
        {"uri": f"{AT}/event_types/c", "active": True, "deleted_at": "2026-01-01T00:00:00Z", "profile": {"owner": ZOE}},
        {"uri": f"{AT}/event_types/d", "active": True, "profile": None},
    ]
    assert offers_in(kinds) == {offer(ZOE, "a")}
    at = {"status": "available", "invitees_remaining": 1}
    items = [{**at, "start_time": f"2026-11-24T{hour}:00:00.000000Z"} for hour in ("11", "10", "10")]
    assert [each.start_time.hour for each in slots_in([*items, {**items[0], "status": "unavailable"}])] == [10, 11]
    times = {"start_time": "2026-11-24T10:00:00Z", "end_time": "2026-11-24T11:00:00Z", "type": "external"}
    buffered = {**times, "buffered_start_time": "2026-11-24T09:45:00Z", "buffered_end_time": None}
    [plain, wide] = busy_in([times, buffered, times])[::-1]
    assert (plain.start_time.minute, wide.start_time.minute, wide.end_time.hour) == (0, 45, 11)


def test_times_and_keys() -> None:
    """The end stays for a day, busy times are asked for in weeks, and a key says whose it is."""
    ends = ends_after(NOW, 14)
    assert ends == ends_after(NOW + 14 * HOUR, 14) < ends_after(NOW + 15 * HOUR, 14)
    assert weeks_of(NOW, NOW + timedelta(days=8)) == (
        (NOW, NOW + timedelta(days=7)),
        (NOW + timedelta(days=7), NOW + timedelta(days=8)),
    )
    assert read_key(key_of(ZOE, f"{AT}/event_types/a")) == (ZOE, f"{AT}/event_types/a")
