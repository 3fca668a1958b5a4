"""When rounds are due and what they list: at most 2 % of a user's rate limit, users and groups in turn."""

from __future__ import annotations

from datetime import timedelta

import pytest

from slotwire.ingest.control.event_families import FamilyQuestions
from slotwire.ingest.control.round_schedule import MAX_PLACES, SHARE, SILENT, pause_after, turn
from slotwire.ingest.control.subscription_facts import Place

MINUTE = timedelta(minutes=1)
WHOLE: Place = ("organization", "")


def users(count: int) -> list[Place]:
    """Return places of so many users."""
    return [("user", f"U{number:03}") for number in range(count)]


@pytest.mark.parametrize(
    ("limit", "others", "minutes", "rotation"),
    [(500, 0, 1, 1), (500, 8, 1, 1), (500, 9, 1, 2), (500, 100, 1, 13), (50, 0, 2, 2), (50, 1, 3, 3), (50, 4, 3, 12)],
)
def test_the_longest_notice_is_as_the_page_says(limit: int, others: int, minutes: int, rotation: int) -> None:
    """An organization's subscription is listed every so many minutes, each user's within a rotation of so many."""
    known, after, passed, seen, listed = [WHOLE, *users(others)], "", timedelta(), set[Place](), 0
    calls = 0
    while True:
        now = turn(known, after, limit=limit, interval=MINUTE, silent=False)
        assert WHOLE in now.places
        rest = pause_after(now.calls, limit=limit, interval=MINUTE, silent=False)
        assert rest <= timedelta(minutes=minutes)
        seen, passed, after, calls, listed = seen | now.places, passed + rest, now.after, calls + now.calls, listed + 1
        if now.completes:
            break
    assert (seen, passed) == (set(known), timedelta(minutes=rotation))
    assert calls <= SHARE * limit * passed / MINUTE + 1e-9


@pytest.mark.parametrize("limit", [None, 0, 1, 50, 500, 5_000])
@pytest.mark.parametrize("silent", [True, False])
def test_listing_never_takes_more_than_its_share(limit: int | None, silent: bool) -> None:
    """Whatever the limit, a silence or the number of users, the calls of a round are paid for by the pause after it."""
    for others in (0, 1, 50, MAX_PLACES + 1):
        now = turn([WHOLE, *users(others)], "", limit=limit, interval=MINUTE, silent=silent)
        rest = pause_after(now.calls, limit=limit, interval=MINUTE, silent=silent)
        assert now.calls <= SHARE * (50 if limit is None else max(limit, 1)) * rest / MINUTE + 1e-6
        assert len(now.places) <= MAX_PLACES + 1


def test_a_silence_is_looked_at_sooner_and_in_whole() -> None:
    """An organization that is silent is listed with all its users, and again as soon as the share allows."""
    now = turn([WHOLE, *users(3)], "user U001", limit=500, interval=MINUTE, silent=True)
    assert now.places == {WHOLE, ("user", "U002")}
    assert now.completes
    assert pause_after(2, limit=500, interval=MINUTE, silent=True) == SILENT
    assert pause_after(2, limit=500, interval=timedelta(seconds=1), silent=True) == timedelta(seconds=12)


def test_a_user_who_is_gone_does_not_stop_the_rotation() -> None:
    """It goes on after the place where it ended, whoever came or went meanwhile."""
    now = turn([WHOLE, *users(20)], "user U00999", limit=500, interval=MINUTE, silent=False)
    assert min(subject for _, subject in now.places if subject) == "U010"
    assert turn([WHOLE], "user U009", limit=500, interval=MINUTE, silent=False).completes


EVENTS = ("invitee.created", "invitee_no_show.created", "routing_form_submission.created", "contact.created")


def test_bookings_are_asked_for_first_and_the_others_by_themselves() -> None:
    """The bookings' events come first, unless they are served; then each other family is asked about."""
    questions = FamilyQuestions(EVENTS, "plan")
    assert list(questions.first(())) == [EVENTS[:2]]
    assert questions.others() == (EVENTS[2:3], EVENTS[3:])
    questions.answer(EVENTS[2:3], "plan")
    questions.answer(EVENTS[3:], None)
    assert questions.allowed == (*EVENTS[:2], "contact.created")
    assert (questions.refused("plan"), questions.refused("scope")) == (("routing_form_submission.created",), ())
    assert list(FamilyQuestions(EVENTS, "plan").first(EVENTS)) == []


def test_of_one_family_beside_the_bookings_the_answer_is_known() -> None:
    """If bookings are allowed and two families were refused together, the other one is what was refused."""
    questions = FamilyQuestions(EVENTS[:3], "scope")
    assert list(questions.first(())) == [EVENTS[:2]]
    assert questions.others() == ()
    assert (questions.allowed, questions.refused("scope")) == (EVENTS[:2], EVENTS[2:3])


def test_without_bookings_each_family_is_asked_about() -> None:
    """Nothing is known of families beside which no bookings are wanted; a role that forbids one counts as a scope."""
    questions = FamilyQuestions(EVENTS[2:], "plan")
    assert list(questions.first(())) == []
    assert questions.others() == (EVENTS[2:3], EVENTS[3:])
    questions.answer(EVENTS[2:3], "role")
    questions.answer(EVENTS[3:], "plan")
    assert (questions.allowed, questions.refused("scope"), questions.refused("plan")) == ((), EVENTS[2:3], EVENTS[3:])
