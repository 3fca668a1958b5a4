"""Scheduled work in a trial: what an author sees without servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from slotwire.handlers import Agent, Context, Done, Firing, Moment, Reject, Retry
from slotwire.handlers.testing import BookingSnapshot, RecordStatus, Trial, TrialClock
from slotwire.schemas.events import InviteeCreated

BEGIN = datetime(2026, 11, 23, 9, tzinfo=UTC)
MEETING = "https://api.calendly.com/scheduled_events/E"
INVITEE = f"{MEETING}/invitees/I"
START, END = BEGIN + timedelta(hours=2), BEGIN + timedelta(hours=3)
BOOKING = BookingSnapshot(INVITEE, "active", scheduled_event=MEETING, start_time=START, end_time=END)


async def test_a_firing_is_handled_as_an_event_is() -> None:
    """Once for equal arguments, with its attempts and its dead letter, for an organization, as a user if it says so."""
    agent = Agent("digest")
    seen: list[tuple[Firing, int, str]] = []
    answers: list[Done | Retry | Reject] = [Retry(), Done(), Reject("no")]

    @agent.at("07:00", timezone="Europe/Berlin")
    async def morning(firing: Firing, ctx: Context) -> Done | Retry | Reject:
        seen.append((firing, ctx.attempt, ctx.organization))
        await ctx.calendly.as_user("https://api.calendly.com/users/U").call("get-user")
        return answers.pop(0)

    trial = Trial(agent, clock=TrialClock(BEGIN))
    trial.calendly.answers["get-user"] = {}
    due = datetime(2026, 11, 23, 6, tzinfo=UTC)
    for expected in (RecordStatus.DONE, RecordStatus.SKIPPED):
        assert (await trial.fire("morning", due=due, organization="ACME")).status is expected
    assert (await trial.fire("morning", due=due, organization="BETA")).status is RecordStatus.DEAD_LETTERED
    assert [(firing.schedule, firing.due, attempt, org) for firing, attempt, org in seen] == [
        ("morning", due, 1, "ACME"),
        ("morning", due, 2, "ACME"),
        ("morning", due, 1, "BETA"),
    ]
    assert trial.done == {seen[0][0].id}
    assert trial.dead_letters[0].record.header("ce_type") == b"io.slotwire.firing.morning"
    with pytest.raises(ValueError, match="it has morning"):
        await trial.fire("evening")


async def test_a_moment_belongs_to_its_booking() -> None:
    """It has the meeting's times; once the booking is canceled or at another time, its function is not called."""
    agent = Agent("concierge")
    seen: list[Moment] = []

    @agent.at(after_end=timedelta(minutes=10))
    async def ask(moment: Moment, ctx: Context) -> None:
        seen.append(moment)
        with pytest.raises(ValueError, match="no event of it could ever answer"):
            await ctx.wait_for(InviteeCreated, timeout=timedelta(days=1))

    trial = Trial(agent)
    assert (await trial.fire("ask", booking=BOOKING)).status is RecordStatus.DONE
    (moment,) = seen
    assert (moment.kind, moment.invitee, moment.scheduled_event) == ("after_end", INVITEE, MEETING)
    assert moment.due == BEGIN + timedelta(hours=3, minutes=10)
    for changed in (BookingSnapshot(INVITEE, "canceled"), BookingSnapshot(INVITEE, "active", end_time=BEGIN)):
        other = Trial(agent)
        other.chains.known["TRIAL", INVITEE] = (changed,)
        assert (await other.fire("ask", booking=BOOKING)).status is RecordStatus.DONE
    assert len(seen) == 1
    with pytest.raises(ValueError, match="a moment needs booking="):
        await Trial(agent).fire("ask")
