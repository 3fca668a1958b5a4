"""What shows that a step of an action had its effect, what follows from it, and how much can be asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from slotwire.ingest.control.actions.intents import (
    INTENT,
    MAX_ANSWERS,
    MAX_GUESTS,
    MAX_REASON,
    fingerprint,
    tag_for,
    tagged,
)
from slotwire.ingest.control.actions.settlement import (
    SKEW,
    Effect,
    Expectation,
    NextStep,
    Settle,
    StepNotSeen,
    StepRefused,
    after_step,
    judge_booking,
    judge_cancellation,
    judge_mark,
    sighting,
)
from slotwire.schemas.ids import person_digest

API = "https://api.calendly.com"
SINCE = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
START = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
TAG = tag_for("ORG", "caller", "key")
OURS = Expectation(TAG, f"{API}/event_types/T", START, person_digest("zoe@example.test"), SINCE)
DONE, PROBABLE, OTHERS, SEVERAL = (Effect(kind, "read") for kind in ("done", "probable", "done_by_other", "several"))


def seen(name: str = "I", **more: Any) -> Any:
    """See a booking by API of the slot that is expected."""
    invitee = {
        "uri": f"{API}/scheduled_events/E/invitees/{name}",
        "email": " ZOE@example.test",
        "scheduling_method": "api",
        "created_at": SINCE.isoformat(),
        "status": "active",
        "tracking": {"utm_term": None},
    }
    meeting = {
        "uri": f"{API}/scheduled_events/E",
        "event_type": f"{API}/event_types/T",
        "start_time": START.isoformat(),
    }
    return sighting(invitee | more, meeting | more.pop("meeting", {}), "read")


@pytest.mark.parametrize(
    ("bookings", "kind"),
    [
        ([seen(tracking={"utm_term": TAG})], "done"),
        ([seen(tracking={"utm_content": TAG}), seen("J")], "done"),
        ([seen("I", tracking={"utm_term": TAG}), seen("J", tracking={"utm_term": TAG})], "several"),
        ([seen("I", tracking={"utm_term": TAG}), seen("I", tracking={"utm_term": TAG})], "done"),
        ([seen(tracking={"utm_term": TAG}, status="canceled")], "done"),
        ([seen()], "probable"),
        ([seen(tracking="none")], "probable"),
        ([seen(created_at=(SINCE - SKEW).isoformat())], "probable"),
        ([seen(), seen("J")], "several"),
        ([seen(tracking={"utm_term": tag_for("ORG", "caller", "another")})], "done_by_other"),
        ([seen(created_at=(SINCE - SKEW - timedelta(seconds=1)).isoformat())], "done_by_other"),
        ([seen(scheduling_method=None)], "done_by_other"),
        ([seen(scheduling_method=None, status="canceled")], None),
        ([seen(email="another@example.test")], None),
        ([seen(meeting={"start_time": (START + timedelta(minutes=1)).isoformat()})], None),
        ([], None),
    ],
)
def test_a_booking_is_known_by_its_tag_else_by_what_it_is(bookings: list[Any], kind: str | None) -> None:
    """The tag proves it; without one all of slot, address, method and time must fit; two are nobody's to choose."""
    found = judge_booking(OURS, bookings)
    assert (None if found is None else found.kind) == kind


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"status": "active"}, None),
        ({"status": "canceled", "cancellation": {"canceler_type": "host", "created_at": SINCE.isoformat()}}, "done"),
        (
            {"status": "canceled", "cancellation": {"canceler_type": "invitee", "created_at": SINCE.isoformat()}},
            "done_by_other",
        ),
        (
            {"status": "canceled", "cancellation": {"canceler_type": "host", "created_at": "2026-11-26T08:00:00Z"}},
            "done_by_other",
        ),
        ({"status": "canceled", "cancellation": None}, "done_by_other"),
    ],
)
def test_a_cancellation_is_ours_if_a_host_made_it_since(told: dict[str, Any], kind: str | None) -> None:
    """Canceled before, or by an invitee, it is by others."""
    found = judge_cancellation(told, SINCE, "read")
    assert (None if found is None else found.kind) == kind


@pytest.mark.parametrize(
    ("no_show", "kind"),
    [
        (None, None),
        ({"uri": "M", "created_at": SINCE.isoformat()}, "done"),
        ({"uri": "M", "created_at": "2026-11-26T08:00:00Z"}, "done_by_other"),
        ({"created_at": SINCE.isoformat()}, None),
    ],
)
def test_a_mark_is_ours_if_it_was_set_since(no_show: Any, kind: str | None) -> None:
    """An older one was set by others."""
    found = judge_mark({"no_show": no_show}, SINCE, "webhook")
    assert (None if found is None else (found.kind, found.mark)) == (None if kind is None else (kind, "M"))


FIRST, LOST = "new_first", "cancel_first"
REFUSED, NOT_SEEN = StepRefused("taken"), StepNotSeen()


@pytest.mark.parametrize(
    ("verb", "step", "plan", "result", "follows"),
    [
        ("book", "book", FIRST, DONE, Settle("done", None, "read")),
        ("book", "book", FIRST, PROBABLE, Settle("probable", None, "read")),
        ("cancel", "cancel", FIRST, OTHERS, Settle("done_by_other", None, "read")),
        ("book", "book", FIRST, SEVERAL, Settle("person", "several_fit")),
        ("book", "book", FIRST, REFUSED, Settle("refused", "taken")),
        ("mark_no_show", "mark", FIRST, NOT_SEEN, Settle("not_seen", "not_seen_twice")),
        ("reschedule", "book", FIRST, DONE, NextStep("cancel")),
        ("reschedule", "book", FIRST, PROBABLE, Settle("person", "new_slot_probable")),
        ("reschedule", "book", FIRST, OTHERS, Settle("person", "booked_by_other")),
        ("reschedule", "book", FIRST, SEVERAL, Settle("person", "several_fit")),
        ("reschedule", "book", FIRST, REFUSED, Settle("refused", "taken")),
        ("reschedule", "book", FIRST, NOT_SEEN, Settle("not_seen", "not_seen_twice")),
        ("reschedule", "cancel", FIRST, OTHERS, Settle("done", None, "read")),
        ("reschedule", "cancel", FIRST, NOT_SEEN, NextStep("cancel", again=True)),
        ("reschedule", "cancel", FIRST, REFUSED, Settle("person", "old_slot_not_canceled")),
        ("reschedule", "cancel", LOST, DONE, NextStep("book")),
        ("reschedule", "cancel", LOST, OTHERS, Settle("refused", "canceled_by_other")),
        ("reschedule", "cancel", LOST, REFUSED, Settle("refused", "taken")),
        ("reschedule", "cancel", LOST, NOT_SEEN, NextStep("cancel", again=True)),
        ("reschedule", "book", LOST, DONE, Settle("done", None, "read")),
        ("reschedule", "book", LOST, PROBABLE, Settle("probable", None, "read")),
        ("reschedule", "book", LOST, SEVERAL, Settle("person", "several_fit")),
        ("reschedule", "book", LOST, REFUSED, NextStep("restore")),
        ("reschedule", "book", LOST, NOT_SEEN, Settle("person", "slot_lost")),
        ("reschedule", "restore", LOST, DONE, Settle("refused", "old_slot_booked_again")),
        ("reschedule", "restore", LOST, REFUSED, Settle("person", "slot_lost")),
        ("reschedule", "restore", LOST, NOT_SEEN, Settle("person", "slot_lost")),
    ],
)
def test_what_follows_a_step(verb: str, step: Any, plan: Any, result: Any, follows: Any) -> None:
    """Nothing is lost that the caller did not allow to be lost, nothing probable is undone, and no step is guessed."""
    assert after_step(verb, step, plan, result, may_lose_slot=False) == follows
    if follows == Settle("refused", "taken") and (verb, plan) == ("reschedule", FIRST):
        allowed = after_step(verb, step, plan, result, may_lose_slot=True)
        assert allowed == NextStep("cancel", "cancel_first")


def test_a_tag_goes_where_nothing_is() -> None:
    """Into the first empty field of two, never over what the caller gave; another action's tag is not carried on."""
    empty = dict.fromkeys(("utm_campaign", "utm_source", "utm_medium", "utm_content", "utm_term", "salesforce_uuid"))
    assert tagged({}, TAG) == ({**empty, "utm_term": TAG}, True)
    assert tagged({"utm_term": "x"}, TAG) == ({**empty, "utm_term": "x", "utm_content": TAG}, True)
    assert tagged({"utm_term": "x", "utm_content": "y"}, TAG)[1] is False
    assert tagged({"utm_term": tag_for("ORG", "caller", "another")}, TAG) == ({**empty, "utm_term": TAG}, True)
    assert tagged({}, None) == (None, False)
    assert TAG == tag_for("ORG", "caller", "key") != tag_for("ORG", "another", "key")


def book(**more: Any) -> dict[str, Any]:
    """Ask for a booking."""
    usual = {"verb": "book", "event_type": "T", "start_time": START.isoformat(), "email": "z@example.test"}
    return {**usual, "timezone": "UTC", "name": "Zoe", **more}


ANSWER = {"question": "Why?", "answer": ""}


@pytest.mark.parametrize(
    ("most", "beyond"),
    [
        (book(guests=["g@example.test"] * MAX_GUESTS), book(guests=["g@example.test"] * (MAX_GUESTS + 1))),
        (book(answers=[ANSWER] * MAX_ANSWERS), book(answers=[ANSWER] * (MAX_ANSWERS + 1))),
        (
            {"verb": "cancel", "scheduled_event": "E", "reason": "x" * MAX_REASON},
            {"verb": "cancel", "scheduled_event": "E", "reason": "x" * (MAX_REASON + 1)},
        ),
        (book(first_name="Zoe", name=None), book(name=None)),
        (book(event_type=f"{API}/event_types/T"), book(event_type=f"{API}/users/T")),
        (book(start_time="2026-12-01T10:00:00+01:00"), book(start_time="2026-12-01T10:00:00")),
        (
            {"verb": "mark_no_show", "invitee": f"{API}/scheduled_events/E/invitees/I"},
            {"verb": "mark_no_show", "invitee": "https://example.com/scheduled_events/E/invitees/I"},
        ),
        ({"verb": "clear_no_show", "mark": "M"}, {"verb": "clear_no_show", "mark": "M/../users/me"}),
    ],
)
def test_what_can_be_asked_for_has_bounds(most: dict[str, Any], beyond: dict[str, Any]) -> None:
    """At each bound it is taken, past it refused; a bare id stands for its URI, and for nothing else."""
    taken = INTENT.validate_python(most)
    assert fingerprint(taken, None) != fingerprint(INTENT.validate_python(book(email="b@example.test")), None)
    with pytest.raises(ValidationError):
        INTENT.validate_python(beyond)
