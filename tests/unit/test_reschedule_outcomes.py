"""The reschedule assistant in a trial: what it asks for, what it leaves, and how each end is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slotwire.handlers.agents.reschedule_assistant import agent
from slotwire.handlers.shipped.settings import MemorySettings
from slotwire.handlers.testing import BookingSnapshot, RecordStatus, Trial, event_of
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.settings import Settings
from slotwire.schemas.calendly import EventMembership, InviteesCounter, ScheduledEvent
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BookingState, InviteeCreated

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
START = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
AWAY = {"begins": "2026-11-25T00:00:00Z", "ends": "2026-11-26T00:00:00Z"}
AT = "https://api.calendly.com"
URI = f"{AT}/scheduled_events/E/invitees/I"
MEETING = ScheduledEvent(
    uri=f"{AT}/scheduled_events/E",
    start_time=START,
    end_time=START + timedelta(minutes=30),
    event_type=f"{AT}/event_types/CALL",
    event_memberships=[EventMembership(user=f"{AT}/users/HOST")],
    invitees_counter=InviteesCounter(total=1, active=1, limit=1),
)


def trial_of(*, limit: int = 1, status: str = "active", slots: int = 4, **settings: Any) -> Trial:
    """Make a trial of an organization that is away on that day."""
    source = MemorySettings({(agent.name, "TRIAL"): {"away": [AWAY], **settings}})
    agent.install(source, Outgoing(Settings().outgoing, purpose="agents"))
    trial = Trial(agent, clock=ManualClock(NOW))
    meeting = MEETING.model_copy(update={"invitees_counter": InviteesCounter(active=1, limit=limit)})
    offered = [{"start_time": f"{START + timedelta(days=1 + n):%Y-%m-%dT%H:%M:%SZ}"} for n in range(slots)]
    trial.calendly.answers = {
        "get-scheduled-event": {"resource": meeting.model_dump(mode="json")},
        "get-scheduled-event-invitees": {"resource": {"uri": URI, "status": status, "timezone": "UTC"}},
        "list-event-type-available-times": {"collection": offered},
        "reschedule": {"state": "done", "id": "A", "reason": None},
    }
    return trial


def booked(sequence: int = 1) -> Event[InviteeCreated]:
    """Make the event of a booking on that day."""
    state = BookingState(state="active", revision=1, chain_root=URI)
    return event_of(InviteeCreated(uri=URI, scheduled_event=MEETING, booking=state), sequence=sequence)


async def test_it_is_moved_once() -> None:
    """To the next day at the same time, with the reason that the invitee reads; a second record asks for nothing."""
    trial = trial_of(reason="We are closed.")
    await trial.deliver(booked(), booked())
    assert [each.status for each in trial.results] == [RecordStatus.DONE, RecordStatus.SKIPPED]
    wanted = {"verb": "reschedule", "start_time": "2026-11-26T10:00:00+00:00", "reason": "We are closed."}
    assert trial.calendly.acted == [("move-1", wanted)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"limit": 10}, "group event"),
        ({"slots": 0}, "no open slot"),
        ({"state": "not_seen"}, "slotwire actions show A"),
        ({"state": "refused"}, "refused 3 slots"),
        ({"code": "not_movable"}, "cannot be booked again"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_moved_is_a_dead_letter(change: dict[str, Any], why: str) -> None:
    """A group event, no slot, three refusals, an unknown outcome: each says why, and three slots are tried at most."""
    state, code = change.pop("state", "done"), change.pop("code", None)
    trial = trial_of(**change)
    trial.calendly.answers["reschedule"] = (
        {"state": state, "id": "A", "reason": "taken"}
        if code is None
        else RequestRefused("the old booking cannot be booked again as it is", code=code)
    )
    await trial.deliver(booked())
    [letter] = trial.dead_letters
    assert why in letter.why.reason
    names = [name for name, _ in trial.calendly.acted]
    starts = {action["start_time"] for _, action in trial.calendly.acted}
    assert names == {"refused": ["move-1", "move-2", "move-3"], "not_seen": ["move-1"]}.get(state, names)
    assert len(starts) == len(names)


async def test_a_person_is_told_once_until_something_changes() -> None:
    """A group's invitees and all looks at them make one dead letter; other settings, or another time, one more.

    The same record, driven again, is given up again; a dry run gives nothing up.
    """
    trial = trial_of(limit=10, reason="We are closed.")
    other = booked().data.model_copy(update={"uri": f"{URI}2"})
    await trial.deliver(booked(), event_of(other))
    booking = BookingSnapshot(
        *(URI, "active"), scheduled_event=MEETING.uri, start_time=START, end_time=START + timedelta(minutes=30)
    )
    await trial.fire("week_before", due=NOW, booking=booking)
    await trial.fire("day_before", due=NOW, booking=booking)
    assert len(trial.dead_letters) == 1
    await trial.deliver(booked())
    assert trial.results[-1].status is RecordStatus.DEAD_LETTERED
    trial.dead_letters.pop()
    for settings in ({"reason": "We moved."}, {"reason": "We moved.", "dry_run": True}):
        agent.install(MemorySettings({(agent.name, "TRIAL"): {"away": [AWAY], **settings}}), agent.outgoing)
        await trial.fire("hours_before", due=NOW, booking=booking)
    assert len(trial.dead_letters) == 2
    later = replace(booking, start_time=START + timedelta(hours=1), end_time=START + timedelta(hours=2))
    agent.install(MemorySettings({(agent.name, "TRIAL"): {"away": [AWAY], "reason": "We moved."}}), agent.outgoing)
    trial.chains.known.clear()
    await trial.fire("week_before", due=NOW + timedelta(hours=1), booking=later)
    assert len(trial.dead_letters) == 3


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"away": []}, "active", None),
        ({"dry_run": True}, "active", None),
        ({}, "canceled", None),
        ({}, "active", "invitee_not_active"),
        ({}, "active", "idempotency_key_reused"),
    ],
)
async def test_what_is_left_as_it_is(settings: dict[str, Any], status: str, code: str | None) -> None:
    """Nobody away, a dry run, a booking that is gone, one that was tried before: done, and nothing is changed."""
    trial = trial_of(status=status, **settings)
    if code is not None:
        trial.calendly.answers["reschedule"] = RequestRefused("refused", code=code)
    await trial.deliver(booked())
    assert trial.results[-1].status is RecordStatus.DONE
    assert bool(trial.calendly.acted) is (code is not None)
    assert not trial.dead_letters


async def test_somebody_is_asked_first() -> None:
    """With `ask` it waits; approved it is moved as was asked, whatever the settings say by then; declined it stays."""
    for approved in (True, False):
        trial, event = trial_of(ask="the front desk"), booked()
        await trial.deliver(event)
        assert trial.waiting == {event.id}
        assert not trial.calendly.acted
        agent.install(MemorySettings({}), agent.outgoing)
        await trial.decide(event, "move 1", approved=approved)
        assert trial.results[-1].status is RecordStatus.DONE
        assert [name for name, _ in trial.calendly.acted] == (["move-1"] if approved else [])


@pytest.mark.parametrize(("hosts", "moved"), [((f"{AT}/users/HOST",), True), ((f"{AT}/users/OTHER",), False)])
async def test_it_looks_again_before_the_start(hosts: tuple[str, ...], *, moved: bool) -> None:
    """What was booked before somebody said that they are away is moved at a moment, and once over all moments."""
    trial = trial_of(away=[{**AWAY, "user": "HOST"}])
    booking = BookingSnapshot(
        *(URI, "active"),
        scheduled_event=MEETING.uri,
        start_time=START,
        end_time=START + timedelta(minutes=30),
        hosts=hosts,
    )
    for moment in ("week_before", "day_before", "hours_before"):
        await trial.fire(moment, due=NOW, booking=booking)
    assert {each.status for each in trial.results} == {RecordStatus.DONE}
    assert {name for name, _ in trial.calendly.acted} == ({"move-1"} if moved else set())
