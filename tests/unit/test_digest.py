"""A digest's parts: moments and days over changes of clocks, whose turn it is, what is selected, how it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from slotwire.handlers.reach.bookings import MAX_BOOKINGS, BookingChange, OrganizationBooking, WaitingForPerson
from slotwire.handlers.shipped.digest import rendered
from slotwire.handlers.shipped.digest.days import changes_clocks, latest_moment, span_of
from slotwire.handlers.shipped.digest.facts import AttentionKind, ChangeKind, DigestFacts, DigestMeeting, DigestPerson
from slotwire.handlers.shipped.digest.page import MAX_PEOPLE, MAX_SHOWN
from slotwire.handlers.shipped.digest.plan import (
    FIRST_AT_MOST,
    LONGEST_PAUSE,
    MAX_MEMORY_BYTES,
    ReaderMemory,
    days_of_hosts,
    due_hosts,
    due_readers,
    hosts_key,
    mail_key,
    plan_as_json,
    plan_from_json,
    read_memories,
    remembered,
    written,
)
from slotwire.handlers.shipped.digest.selection import DigestWindow, facts_of, hosts_of
from slotwire.ingest.foundation.agent_settings.nightly_digest import NightlyDigestSettings
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.events import EventData, InviteeCanceled, InviteeCreated, InviteeNoShowCreated, InviteeRescheduled
from tools.digest_picture import EXAMPLE
from tools.sources import ROOT

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 12, 1, 17, 0, tzinfo=UTC)
HOST = "https://api.calendly.com/users/ADA"


def utc(text: str) -> datetime:
    """Read a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00", 23),  # clocks go forward
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00", 25),  # and back
        ("America/New_York", "2026-03-08", "2026-03-08T05:00", 23),
        ("America/New_York", "2026-11-01", "2026-11-01T04:00", 25),
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30", 23.5),  # by half an hour
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", 24.5),
        ("Asia/Kolkata", "2026-03-29", "2026-03-28T18:30", 24),  # never
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00", 23),  # midnight does not exist
        ("America/Havana", "2026-11-01", "2026-11-01T04:00", 25),  # midnight comes twice
    ],
)
def test_a_day_is_as_long_as_its_clocks_say(zone: str, day: str, start: str, hours: float) -> None:
    """A day begins at its first instant and ends where the next one begins."""
    whole = span_of(date.fromisoformat(day), ZoneInfo(zone))
    assert whole == (utc(start), utc(start) + timedelta(hours=hours))
    assert changes_clocks(date.fromisoformat(day), ZoneInfo(zone)) == (hours != 24)


@pytest.mark.parametrize(
    ("zone", "at", "now", "moment"),
    [
        ("Europe/Berlin", "18:00", "2026-03-29T16:00", "2026-03-29T16:00"),  # at once, in summer time
        ("Europe/Berlin", "18:00", "2026-03-29T15:59", "2026-03-28T17:00"),  # the day before, in winter time
        ("Europe/Berlin", "02:30", "2026-03-29T12:00", "2026-03-29T01:30"),  # clocks skip it: an hour later
        ("Europe/Berlin", "02:30", "2026-10-25T12:00", "2026-10-25T00:30"),  # it comes twice: the first one
        ("America/New_York", "02:30", "2026-11-01T23:00", "2026-11-01T07:30"),
        ("Australia/Lord_Howe", "02:00", "2026-10-03T16:00", "2026-10-03T15:30"),
        ("Asia/Kolkata", "00:00", "2026-12-01T18:30", "2026-12-01T18:30"),
        ("Pacific/Kiritimati", "18:00", "2026-12-01T03:00", "2026-11-30T04:00"),  # 14 hours ahead
        ("Pacific/Kiritimati", "18:00", "2026-12-01T12:00", "2026-12-01T04:00"),
    ],
)
def test_a_moment_is_the_latest_time_that_clocks_showed(zone: str, at: str, now: str, moment: str) -> None:
    """Whatever clocks do on that day, there is one moment a day."""
    assert latest_moment(utc(now), time.fromisoformat(at), ZoneInfo(zone)) == utc(moment)


def settings(**values: object) -> NightlyDigestSettings:
    """Digests of one organization in Berlin, with a reader."""
    given = {"timezone": "Europe/Berlin", "mail": ["ops@example.com"], **values}
    return NightlyDigestSettings.read(given, allow_local=False)


OPS = mail_key("ops@example.com")


def test_a_digest_is_due_once_for_its_moment() -> None:
    """The first comes within an hour of its moment, each later one whenever it can, and tells what followed."""
    wanted, none = settings(), dict[str, ReaderMemory]()
    (first,) = due_readers(wanted, none, NOW + FIRST_AT_MOST - timedelta(seconds=1))
    assert (first.key, first.mail) == (OPS, "ops@example.com")
    assert (first.moment, first.after, first.since) == (NOW, None, NOW - timedelta(days=1))
    assert not list(due_readers(wanted, none, NOW + FIRST_AT_MOST))
    known = remembered(none, {first: True}, 70, NOW, wanted)
    assert read_memories(written(known)) == known
    assert not list(due_readers(wanted, known, NOW + timedelta(hours=23)))
    (late,) = due_readers(wanted, known, NOW + timedelta(days=3, hours=20))
    assert (late.moment, late.after, late.since) == (NOW + timedelta(days=3), 70, NOW)
    assert late.window(90, wanted) == DigestWindow(date(2026, 12, 5), BERLIN, 70, 90, NOW)
    assert plan_from_json(plan_as_json([first, late])) == [first, late]
    assert len({late.id("ORG", 90), late.id("ORG", 91), late.id("OTHER", 90), first.id("ORG", 90)}) == 4
    assert late.window(90, settings(day="today")).day == date(2026, 12, 4)
    assert not remembered(known, {}, 90, NOW, settings(mail=[])), "who is no reader any more is forgotten"


def test_a_reader_who_is_away_is_told_later_and_holds_up_nobody() -> None:
    """Tries are further and further apart, at most half a day; the others' memory goes on; theirs stays."""
    two = settings(file=True)
    desk, ops = due_readers(two, {}, NOW)
    known, now = remembered({}, {ops: False, desk: True}, 70, NOW, two), NOW
    pauses, ids = list[timedelta](), {NOW: {ops.id("ORG", 70)}}
    for until in range(71, 80):
        tries = (now + step * timedelta(minutes=30) for step in range(1, 100))
        before, now = now, next(at for at in tries if OPS in {each.key for each in due_readers(two, known, at)})
        pauses.append(now - before)
        due = {each.key: each for each in due_readers(two, known, now)}
        assert due[OPS].after is None
        same_day = due[OPS].moment == known[OPS].trying
        assert due[OPS].until == (known[OPS].telling if same_day else None)
        ids.setdefault(due[OPS].moment, set()).add(due[OPS].id("ORG", due[OPS].until or until))
        known = remembered(known, {each: each.key != OPS for each in due.values()}, until, now, two)
    assert pauses[:4] == [timedelta(minutes=30 * 2**n) for n in range(4)]
    assert max(pauses) == LONGEST_PAUSE
    assert (known[OPS].failures, known["file"].failures) == (10, 0)
    assert [len(each) for each in ids.values()] == [1] * len(ids), "one id for all tries of a moment's digest"
    assert read_memories(written(known)) == known


def test_what_is_remembered_has_a_limit() -> None:
    """Past it hosts are left out, first who got theirs the longest ago; readers, and who is owed one, stay."""
    wanted = settings(mail=[f"reader{n}@example.com" for n in range(50)], each_host=True)
    users = (f"https://api.calendly.com/users/{n:08}-89ab-cdef-0123-456789abcdef" for n in range(500))
    hosts = dict.fromkeys(users, "host@example.com")
    due = [*due_readers(wanted, {}, NOW), *due_hosts(wanted, {}, NOW, hosts)]
    old, owed = due[50:400], due[:50] + due[400:550]
    known = remembered(
        {}, {replace(each, moment=NOW - timedelta(days=1)): True for each in old}, 70, NOW - timedelta(days=1), wanted
    )
    known = remembered(known, {each: each.host is None for each in owed}, 71, NOW, wanted)
    assert MAX_MEMORY_BYTES - 500 < len(orjson.dumps(written(known))) <= MAX_MEMORY_BYTES
    assert {each.key for each in owed} < set(known)
    assert hosts_key("Europe/Berlin") in known


def test_each_host_gets_their_own() -> None:
    """Hosts are looked for once a day, or while one of them could not be reached; each has a memory of their own."""
    wanted = settings(mail=[], each_host=True, host_timezones="https://api.calendly.com/users/CY=Asia/Tokyo")
    assert not days_of_hosts(settings(), {}, NOW)
    assert days_of_hosts(wanted, {}, NOW) == ((date(2026, 12, 2), BERLIN),), "in Tokyo it is too late for a first one"
    hosts = {HOST: "ada@example.com", "https://api.calendly.com/users/BOB": "bob@example.com"}
    ada, bob = due_hosts(wanted, {}, NOW, hosts)
    assert (ada.key, ada.host, ada.mail) == ("host ADA", HOST, "ada@example.com")
    known = remembered({}, {ada: True, bob: False}, 9, NOW, wanted)
    assert not days_of_hosts(wanted, known, NOW + timedelta(minutes=29))
    later = NOW + timedelta(minutes=30)
    assert days_of_hosts(wanted, known, later)
    assert [each.key for each in due_hosts(wanted, known, later, hosts)] == ["host BOB"]
    tokyo = datetime(2026, 12, 2, 9, tzinfo=UTC)
    assert (date(2026, 12, 3), ZoneInfo("Asia/Tokyo")) in days_of_hosts(wanted, known, tokyo)
    (cy,) = due_hosts(wanted, known, tokyo, {"https://api.calendly.com/users/CY": "cy@example.com"})
    assert (cy.moment, cy.zone) == (tokyo, "Asia/Tokyo")


@pytest.mark.parametrize(
    "wrong",
    [
        {"timezone": "Europe/Atlantis"},
        {"timezone": "../etc/passwd"},
        {"at": "18:10"},
        {"mail": ["ops@example.com", "ops@example.com"]},
        {"mail": ["a@example.com\nBcc: b@example.com"]},
        {"mail": ["a@example.com b@example.com"]},
        {"webhook": "https://example.com/hook"},
        {"webhook": "http://127.0.0.1/hook", "webhook_secret": "whsec_" + "A" * 32},
        {"host_timezones": ["ADA=Nowhere"]},
        {"host_timezones": ["=Asia/Tokyo"]},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    """A zone that does not exist, two addresses, a header in an address, a webhook without a signature or on us."""
    with pytest.raises(ConfigurationError):
        settings(**wrong)


def uri(invitee: str) -> str:
    """An invitee's URI."""
    return f"https://api.calendly.com/scheduled_events/E{invitee}/invitees/{invitee}"


def told(invitee: str, *, start: datetime = NOW, **more: Any) -> dict[str, object]:
    """What an invitee's events say."""
    return {
        "uri": uri(invitee),
        "name": f"Name {invitee}",
        "email": f"{invitee}@example.com",
        "booking": {"state": "active", "revision": 1, "chain_root": uri(invitee)},
        "scheduled_event": {
            "uri": f"https://api.calendly.com/scheduled_events/E{invitee}",
            "name": "Intro",
            "start_time": start.isoformat(),
            "event_memberships": [{"user": HOST, "user_email": "ada@example.com", "user_name": "Ada"}],
        },
        **more,
    }


def selected(
    changes: Sequence[BookingChange], bookings: Sequence[OrganizationBooking] = (), host: str | None = None
) -> DigestFacts:
    """Select for a digest."""
    return facts_of(DigestWindow(date(2026, 12, 2), BERLIN, 1, 9, NOW, host), bookings, changes, ())


def change(position: int, cls: type[EventData], invitee: str, **more: Any) -> BookingChange:
    """A change as it is read."""
    return BookingChange(position, cls.type, uri(invitee), NOW, cls.model_validate(told(invitee, **more)))


def test_a_move_is_one_change() -> None:
    """Its two halves are not told beside it, nor before it; what was before and after it is told."""
    made = change(1, InviteeCreated, "b", old_invitee=uri("a"))
    gone = change(2, InviteeCanceled, "a", rescheduled=True)
    moved = BookingChange(
        3,
        InviteeRescheduled.type,
        uri("b"),
        NOW,
        InviteeRescheduled.model_validate(
            {
                "uri": uri("b"),
                "old_invitee": uri("a"),
                "old_start_time": "2026-12-01T09:00:00Z",
                "booking": {"state": "active", "revision": 1, "chain_root": uri("a")},
            }
        ),
        InviteeCreated.model_validate(told("b")),
    )
    later = change(4, InviteeCanceled, "b", cancellation={"reason": "ill", "canceler_type": "host"})
    kinds = [each.kind for each in selected([made, gone, moved, later]).changes]
    assert kinds == [ChangeKind.MOVED, ChangeKind.CANCELED]
    first = change(0, InviteeCreated, "a")
    assert [each.kind for each in selected([first, made, gone, moved]).changes] == [ChangeKind.NEW, ChangeKind.MOVED]
    whole = selected([made, gone, moved, later]).changes
    assert (whole[0].person.name, whole[0].old_start) == ("Name b", utc("2026-12-01T09:00"))
    assert (whole[1].reason, whole[1].canceler) == ("ill", "host")
    assert not selected([made, gone]).changes
    made = change(1, InviteeCreated, "b")
    by_action = change(2, InviteeCanceled, "a", part_of_action="01a2b3c4-0000-4000-8000-000000000000")
    assert [each.kind for each in selected([made, by_action, moved]).changes] == [ChangeKind.MOVED]


def booking(invitee: str, meeting: str, *, minutes: int = 0, **more: object) -> OrganizationBooking:
    """A booking as it is read."""
    start = NOW + timedelta(minutes=minutes)
    created = InviteeCreated.model_validate(told(invitee))
    values: dict[str, object] = {"hosts": (HOST,), "created": created, **more}
    return OrganizationBooking(uri(invitee), meeting, start, start + timedelta(minutes=30), **values)  # type: ignore[arg-type]  # by their names


def test_people_of_one_meeting_are_together() -> None:
    """A group's meeting is one; a booking whose story is gone or too long has no name; no-shows are marked."""
    rows = [booking("a", "E1", no_show=True), booking("b", "E1", created=None), booking("c", "E2", minutes=60)]
    facts = selected([BookingChange(5, InviteeNoShowCreated.type, uri("z"), NOW)], rows, HOST)
    assert [len(meeting.people) for meeting in facts.meetings] == [2, 1]
    assert facts.meetings[0].people == (DigestPerson("Name a", "a@example.com", no_show=True), DigestPerson(None, None))
    assert facts.host == "Ada"
    assert (facts.changes[0].person, facts.changes[0].start) == (DigestPerson(None, None), NOW)
    assert hosts_of(rows) == {HOST: "ada@example.com"}
    assert "somebody without a name" in rendered(facts).text


def test_what_is_left_out_is_said() -> None:
    """At each limit all is shown; one past it, the page says that there is more."""
    rows = [booking("a", f"E{n}", minutes=n) for n in range(MAX_BOOKINGS + 1)]
    assert not selected([], rows[:MAX_BOOKINGS]).more_meetings
    assert rendered(selected([], rows)).subject.startswith("More than 300 meetings on Wednesday, 2 December 2026")
    shown = [rendered(selected([], rows[: MAX_SHOWN + more])).text for more in (0, 1)]
    assert ["and 1 more" in text for text in shown] == [False, True]
    people = [[booking("a", "E")] * (MAX_PEOPLE + more) for more in (0, 1)]
    assert ["and 1 more" in rendered(selected([], each)).text for each in people] == [False, True]


def test_times_say_their_offset_where_clocks_change() -> None:
    """On such a day each time has its offset; a meeting over midnight says so."""
    zone, day = ZoneInfo("Europe/Berlin"), date(2026, 10, 25)
    meeting = DigestMeeting(utc("2026-10-25T00:30"), utc("2026-10-25T01:30"), None, None, (), ())
    text = rendered(DigestFacts(day, zone, meetings=(meeting,))).text
    assert "02:30 (UTC+2)-02:30 (UTC+1)" in text
    over = replace(meeting, start=utc("2026-12-01T22:30"), end=utc("2026-12-01T23:30"))
    assert "23:30-00:30 next day" in rendered(DigestFacts(date(2026, 12, 1), zone, meetings=(over,))).text


def test_every_word_for_what_waits_is_known() -> None:
    """Each kind that the database tells has its words, in the order of how much it hurts."""
    waiting = [WaitingForPerson(kind.value, 2, NOW) for kind in reversed(AttentionKind)]
    facts = facts_of(DigestWindow(date(2026, 12, 2), BERLIN, 1, 9, NOW), (), (), waiting)
    assert [each.kind for each in facts.attention] == list(AttentionKind)
    assert rendered(facts).text.count("the oldest since Tue 1 Dec 2026, 18:00") == len(AttentionKind)


def test_the_guide_shows_what_the_agent_sends() -> None:
    """The text in the guide is what comes of the example of its picture."""
    guide = (ROOT / "docs" / "howto" / "send-a-digest.md").read_text(encoding="utf-8")
    assert f"```\n{rendered(EXAMPLE).text}```" in guide
