"""The reschedule assistant: which bookings are moved, to which slot, and what becomes of an action."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from slotwire.handlers.agents.reschedule_assistant import Booked, Slot, choose, concerns
from slotwire.ingest.foundation.agent_settings import AwayTime, Prefer, RescheduleSettings
from slotwire.schemas.calendly import EventMembership, InviteePayload, InviteesCounter, ScheduledEvent

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # a Monday
HOST, OTHER = "https://api.calendly.com/users/HOST", "https://api.calendly.com/users/OTHER"
KIND = "https://api.calendly.com/event_types/CALL"
HALF = timedelta(minutes=30)
PARIS = ZoneInfo("Europe/Paris")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """Name a time of November 2026, or of the days after it."""
    return datetime(2026, 11, 1, hour, minute, tzinfo=UTC) + timedelta(days=day - 1)


def away(begins: datetime, ends: datetime, user: str | None = None, **more: Any) -> RescheduleSettings:
    """Say that somebody is away."""
    return RescheduleSettings(away=(AwayTime(begins=begins, ends=ends, user=user),), **more)


def booked(start: datetime, **more: Any) -> Booked:
    """Make a booking of half an hour."""
    return Booked(Slot(start, start + HALF, PARIS), (HOST,), KIND, **more)


@pytest.mark.parametrize(
    ("settings", "start", "moved"),
    [
        (away(at(25, 0), at(26, 0)), at(25, 10), True),
        (away(at(25, 10, 29), at(26, 0)), at(25, 10), True),
        (away(at(25, 10, 30), at(26, 0)), at(25, 10), False),
        (away(at(25, 0), at(25, 10)), at(25, 10), False),
        (away(at(25, 0), at(26, 0), "HOST"), at(25, 10), True),
        (away(at(25, 0), at(26, 0), OTHER), at(25, 10), False),
        (away(at(20, 0), at(26, 0)), at(23, 8), False),
        (away(at(25, 0), at(26, 0), event_types=("CALL",)), at(25, 10), True),
        (away(at(25, 0), at(26, 0), event_types=("DEMO",)), at(25, 10), False),
        (RescheduleSettings(), at(25, 10), False),
    ],
)
def test_which_bookings_are_moved(settings: RescheduleSettings, start: datetime, *, moved: bool) -> None:
    """One that overlaps an away time of its host or of all, is to come, and is of an event type that is meant."""
    assert concerns(settings, booked(start), NOW) is moved


@pytest.mark.parametrize(
    ("prefer", "offered", "chosen"),
    [
        ("soonest", [at(26, 9), at(26, 10), at(25, 15)], at(26, 9)),  # the 25th is away
        ("same_time", [at(26, 9), at(27, 10), at(30, 10)], at(27, 10)),
        ("same_time", [at(26, 9), at(27, 11)], at(26, 9)),
        ("same_weekday", [at(26, 10), at(32, 10), at(32, 9)], at(32, 10)),
        ("same_weekday", [at(26, 10), at(32, 9)], at(32, 9)),
        ("same_weekday", [at(27, 9), at(26, 10)], at(26, 10)),
        ("soonest", [at(24, 10), at(40, 10)], None),  # before the old one, and too late
        ("soonest", [at(39, 10), at(39, 10, 30)], at(39, 10)),  # 14 days after it at most
        ("soonest", [], None),
    ],
)
def test_which_slot_is_chosen(prefer: Prefer, offered: list[datetime], chosen: datetime | None) -> None:
    """A later one within the days that are allowed, outside of away times, as near to what is wished as there is."""
    settings = away(at(25, 0), at(26, 0), prefer=prefer)
    old = booked(at(25, 10)).slot
    assert choose(settings, old, (HOST,), offered, NOW) == chosen


def test_notice_and_the_invitees_clock() -> None:
    """A new slot leaves the notice, and the same time of day is that of the invitee's zone as clocks change."""
    soon = away(at(23, 0), at(24, 0), notice_hours=48, prefer="soonest")
    old = booked(at(23, 15)).slot
    assert choose(soon, old, (), [at(24, 9), at(25, 8, 59), at(25, 9)], NOW) == at(25, 9)
    before = datetime(2026, 10, 22, 9, 0, tzinfo=UTC)  # 11:00 in Paris, until the 25th
    settings = away(before, before + HALF)
    offered = [before + timedelta(days=6), before + timedelta(days=6, hours=1)]
    found = choose(settings, Slot(before, before + HALF, PARIS), (), offered, before - timedelta(days=3))
    assert found == offered[1]


@pytest.mark.parametrize("zone", ["../etc/passwd", "Europe", "x" * 300, "UTC\x00", "Nowhere/Land"])
def test_what_calendly_says_of_a_booking(zone: str) -> None:
    """Hosts, times and the number of places; a zone that nobody knows is UTC, and without a start there is nothing."""
    meeting = ScheduledEvent(
        uri="https://api.calendly.com/scheduled_events/E",
        start_time=at(25, 10),
        event_type=KIND,
        event_memberships=[EventMembership(user=HOST)],
        invitees_counter=InviteesCounter(limit=1, active=1),
    )
    invitee = InviteePayload(uri="https://api.calendly.com/scheduled_events/E/invitees/I", timezone=zone)
    found = Booked.of(invitee, meeting)
    assert found is not None
    assert (found.hosts, found.group, str(found.slot.zone), found.slot.end) == ((HOST,), False, "UTC", at(25, 10))
    group = Booked.of(invitee, meeting.model_copy(update={"invitees_counter": InviteesCounter(limit=10, active=1)}))
    assert group is not None
    assert group.group
    assert Booked.of(invitee, meeting.model_copy(update={"start_time": None})) is None
    assert Booked.of(invitee, None) is None
