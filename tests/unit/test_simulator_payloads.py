"""Bodies as Calendly puts them on the wire, and the seed they come from."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest

from slotwire.ingest.simulator import payloads
from slotwire.ingest.simulator.clock import DrivenClock, stamp
from slotwire.ingest.simulator.drafts import BookingDetails, new_event, new_invitee
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.model import SimulatedInvitee, SimulatedNoShow, SimulatedScheduledEvent
from slotwire.ingest.simulator.sender import DeliveryPolicy
from slotwire.ingest.simulator.world import MAX_ORGANIZATIONS, make_world

NOW = datetime(2026, 11, 23, 8, 41, 39, 251_021, UTC)


def _booking(
    location: str = "zoom", details: BookingDetails | None = None
) -> tuple[SimulatedScheduledEvent, SimulatedInvitee]:
    world = make_world("seed")
    offer = next(iter(world.event_types.values()))
    event = new_event(offer, None, location, Draws("event"), NOW)
    return event, new_invitee(details or BookingDetails(), event, 1, Draws("invitee"), NOW)


def _payload(event: SimulatedScheduledEvent, invitee: SimulatedInvitee, **more: bool) -> bytes:
    host = make_world("seed").users[event.host]
    return payloads.invitee_payload(invitee, payloads.scheduled_event(event, host, 1, 1), **more)


def test_envelope_is_compact_alphabetical_and_in_whole_seconds() -> None:
    """The envelope's time loses its microseconds, keys are sorted, slashes stay, nothing is padded."""
    body = payloads.envelope("invitee.created", _payload(*_booking()), "HOST", NOW)
    parsed = orjson.loads(body)
    assert list(parsed) == ["created_at", "created_by", "event", "payload"]
    assert parsed["created_at"] == "2026-11-23T08:41:39.000000Z"
    assert parsed["payload"]["created_at"] == "2026-11-23T08:41:39.251021Z"
    assert list(parsed["payload"]) == sorted(parsed["payload"])
    assert b"\\/" not in body
    assert body == orjson.dumps(parsed)


def test_zoom_id_is_an_integer_above_32_bits() -> None:
    """Zoom's id is documented as a string and sent as a big integer."""
    for number in range(50):
        location = payloads.location("zoom", "E", Draws(number))
        assert location is not None
        data = location["data"]
        assert isinstance(data, dict)
        assert isinstance(data["id"], int)
        assert data["id"] > 2**32


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        ("google_conference", "google_conference"),
        ("microsoft_teams_conference", "microsoft_teams_conference"),
        ("physical", "physical"),
        ("outbound_call", "outbound_call"),
        ("custom", "custom"),
    ],
)
def test_location_names_its_type(kind: str, type_: str) -> None:
    """Each kind of location carries its type on the wire."""
    location = payloads.location(kind, "E", Draws(1), "+1 202-555-0100")
    assert location is not None
    assert location["type"] == type_


def test_location_none_is_null() -> None:
    """A scheduled event may have no location at all."""
    assert payloads.location("none", "E", Draws(1)) is None


def test_name_may_be_null() -> None:
    """`name: null` was seen, so it can be asked for."""
    event, invitee = _booking(details=BookingDetails(name_null=True))
    assert orjson.loads(_payload(event, invitee))["name"] is None


def test_cleared_mark_is_null_or_absent() -> None:
    """After a cleared no-show the field is null, or not there."""
    event, invitee = _booking()
    assert orjson.loads(_payload(event, invitee))["no_show"] is None
    assert "no_show" not in orjson.loads(_payload(event, invitee, omit_no_show=True))


def test_mark_is_named_by_its_own_uri() -> None:
    """A no-show mark has an URI of its own, under `/invitee_no_shows/`."""
    assert SimulatedNoShow("N", NOW).uri == "https://api.calendly.com/invitee_no_shows/N"


def test_rest_knows_more_than_the_webhook() -> None:
    """Calendar event and buffered times are REST's alone."""
    event, _ = _booking()
    host = make_world("seed").users[event.host]
    hook, rest = (payloads.scheduled_event(event, host, 1, 1, rest=value) for value in (False, True))
    assert "calendar_event" not in hook
    assert "calendar_event" in rest
    assert "buffered_start_time" in orjson.loads(orjson.dumps(rest))["event_memberships"][0]


def test_stamp_is_utc_with_microseconds() -> None:
    """Times are written in UTC with six digits and `Z`, whatever zone they were in and even at the full second."""
    there = datetime(2026, 1, 2, 5, 0, tzinfo=timezone(timedelta(hours=2)))
    assert stamp(there) == "2026-01-02T03:00:00.000000Z"


def test_the_same_seed_makes_the_same_world() -> None:
    """One seed gives one world, tokens included; another seed another."""
    assert make_world("a", 3) == make_world("a", 3)
    assert make_world("a").tokens != make_world("b").tokens
    assert not set(make_world("a").users) & set(make_world("b").users)


def test_nobody_has_a_real_address() -> None:
    """Every invented person lives at example.com and has a number from the range reserved for fiction."""
    for user in make_world("people", 20).users.values():
        assert user.email.endswith("@example.com")
    for number in range(200):
        event = _booking()[0]
        invitee = new_invitee(BookingDetails(), event, number, Draws(number), NOW)
        assert re.fullmatch(r"[a-z.]+\.\d+@example\.com", invitee.email)
        assert invitee.text_reminder_number is None or invitee.text_reminder_number.startswith("+1 202-555-01")


@pytest.mark.parametrize("count", [0, MAX_ORGANIZATIONS + 1])
def test_a_world_has_limits(count: int) -> None:
    """Fewer than one and more than the limit of organizations are refused."""
    with pytest.raises(ValueError, match="1 to 1000 organizations"):
        make_world("seed", count)
    assert len(make_world("seed", MAX_ORGANIZATIONS).organizations) == MAX_ORGANIZATIONS


def test_draws_do_not_depend_on_each_other() -> None:
    """A draw is named by its labels: asking for others before changes nothing."""
    first = [Draws("s", number).uuid() for number in range(5)]
    assert [Draws("s", number).uuid() for number in reversed(range(5))] == first[::-1]
    assert len(set(first)) == 5


def test_draws_follow_their_rates() -> None:
    """A rate of 0 never happens, 1 always, a quarter about a quarter of the time; weights of 0 are never taken."""
    assert not any(Draws(number).chance(0.0) for number in range(1000))
    assert all(Draws(number).chance(1.0) for number in range(1000))
    assert 200 < sum(Draws(number).chance(0.25) for number in range(1000)) < 300
    assert {Draws(number).weighted((("a", 1), ("b", 0), ("c", 2))) for number in range(200)} == {"a", "c"}


def test_back_off_doubles_up_to_its_limit() -> None:
    """Retries wait 1, 2, 4 … seconds and never longer than the limit, however often they failed."""
    policy = DeliveryPolicy(first_retry_seconds=1, factor=2, max_retry_seconds=10)
    assert [policy.pause(attempt).total_seconds() for attempt in (1, 2, 3, 4, 5, 10_000)] == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1001}, "concurrency"),
        ({"first_retry_seconds": 0}, "back-off"),
        ({"factor": 0.5}, "back-off"),
        ({"max_retry_seconds": 0.5}, "back-off"),
    ],
)
def test_an_impossible_policy_is_refused(options: dict[str, float], message: str) -> None:
    """Concurrency outside its limits and a shrinking back-off are errors at construction."""
    with pytest.raises(ValueError, match=message):
        DeliveryPolicy(**options)  # type: ignore[arg-type]  # one field at a time, by name


def test_the_clock_only_moves_forward() -> None:
    """Advancing adds up; going back or beyond ten years at once is refused and changes nothing."""
    clock = DrivenClock(real=lambda: 1_700_000_000.25)
    clock.advance(timedelta(hours=24))
    clock.advance(timedelta(seconds=1))
    assert stamp(clock.now()) == "2023-11-15T22:13:21.250000Z"
    for by in (timedelta(seconds=-1), timedelta(days=3661)):
        with pytest.raises(ValueError, match="forward"):
            clock.advance(by)
    assert clock.offset == timedelta(hours=24, seconds=1)
