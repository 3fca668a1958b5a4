"""Waits and versions: which event ends a wait, and with which code, with everything but the dispatch in memory."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from slotwire.handlers import Agent, Context
from slotwire.handlers.long_work.approvals import MAX_ASKED_BYTES, MAX_PERSON_CHARACTERS
from slotwire.handlers.long_work.steps import MAX_WAIT
from slotwire.handlers.long_work.versions import JournalMigration
from slotwire.handlers.testing import RecordStatus, Trial
from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import (
    ContactCreated,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeRescheduled,
)
from tests.support.agent_setup import invitee_created
from tests.support.long_work import DAY, START, Outside, canceled, trial_of
from tools.sources import ROOT


async def test_a_wait_is_answered_by_a_later_event_of_its_chain() -> None:
    """The run is set aside and goes on from the top with its steps answered; others of the chain go on meanwhile."""
    outside, found = Outside(), list[object]()

    async def body(ctx: Context) -> None:
        await ctx.step("welcome", outside.does("welcome"))
        found.append(await ctx.wait_for(InviteeCanceled, timeout=DAY))
        await ctx.step("bye", outside.does("bye"))

    trial = trial_of(body)
    booked, second, end = invitee_created("k", 1), invitee_created("k", 2), canceled("k", 3)
    [waits] = await trial.deliver(booked)
    assert (waits.status, trial.waiting) == (RecordStatus.SET_ASIDE, frozenset({booked.id}))
    await trial.deliver(canceled("another", 2), second)
    assert trial.waiting == {booked.id, second.id}, (
        "neither another chain's event answers, nor is a later one held back"
    )
    await trial.deliver(end, end)
    assert found == [end, end]
    assert trial.done >= {booked.id, second.id}
    assert [name for name, _ in outside.calls] == ["welcome", "welcome", "bye", "bye"]


async def test_a_wait_ends_by_itself() -> None:
    """After its time it returns None, once the clock says so and not before."""
    clock, found = ManualClock(START), list[object]()

    async def body(ctx: Context) -> None:
        found.append(await ctx.wait_for(InviteeCanceled, timeout=DAY))

    trial = trial_of(body, clock=clock)
    await trial.deliver(invitee_created("k", 1))
    clock.advance(DAY - timedelta(seconds=1))
    assert await trial.go_on() == ()
    clock.advance(timedelta(seconds=1))
    [result] = await trial.go_on()
    assert (result.status, found) == (RecordStatus.DONE, [None])
    await trial.deliver(canceled("k", 2))
    assert found == [None], "whatever comes then is too late"


async def test_where_decides_which_event_answers() -> None:
    """Its True or False counts; anything else is a failed run, and no answer."""
    answers: list[object] = []

    def where(event: Event[InviteeCanceled]) -> bool:
        answer: Any = {2: False, 3: "yes", 4: True}[event.sequence]
        return answer  # type: ignore[no-any-return]  # it is what some authors return

    async def body(ctx: Context) -> None:
        answers.append(await ctx.wait_for(InviteeCanceled, where=where, timeout=DAY))

    trial = trial_of(body, attempts=1)
    event = invitee_created("k", 1)
    await trial.deliver(event, canceled("k", 2))
    assert trial.waiting == {event.id}
    await trial.deliver(canceled("k", 3))
    [letter] = trial.dead_letters
    assert letter.why.reason == "raised TypeError"
    assert letter.record.key == b"k", "the run's own event is given up, not the one that came"
    await trial.deliver(canceled("k", 4))
    assert answers == []


async def test_an_answer_is_later_than_all_that_the_run_has_seen() -> None:
    """Two waits for one type take two events; an older event that comes again, as by a replay, answers nothing."""
    found: list[int] = []

    async def body(ctx: Context) -> None:
        for name in ("first", "second"):
            event = await ctx.wait_for(InviteeCanceled, timeout=DAY, name=name)
            assert event is not None
            found.append(event.sequence)

    trial = trial_of(body)
    await trial.deliver(invitee_created("k", 5), canceled("k", 4), canceled("k", 6))
    assert found == [6]
    await trial.deliver(canceled("k", 6), canceled("k", 7))
    assert found == [6, 6, 7]


async def test_a_wait_takes_several_types_of_its_own_topic() -> None:
    """One of another topic could never answer: its keys are others. That is refused at once."""

    async def body(ctx: Context) -> None:
        either = await ctx.wait_for(InviteeCanceled, InviteeNoShowCreated, timeout=DAY)
        assert either is not None
        with pytest.raises(ValueError, match="no event of it could ever answer"):
            await ctx.wait_for(ContactCreated, timeout=DAY)
        for timeout in (timedelta(0), MAX_WAIT + timedelta(seconds=1)):
            with pytest.raises(ValueError, match="at most 366 days"):
                await ctx.wait_for(InviteeRescheduled, timeout=timeout)

    trial = trial_of(body, attempts=1)
    event = invitee_created("k", 1)
    await trial.deliver(event, canceled("k", 2))
    assert event.id in trial.done


async def test_a_handler_that_catches_everything_is_set_aside_all_the_same() -> None:
    """Neither a bare except nor a task group makes a wait count as done."""

    async def body(ctx: Context) -> None:
        with suppress(BaseException):
            await ctx.wait_for(InviteeCanceled, timeout=DAY)

    trial = trial_of(body)
    event = invitee_created("k", 1)
    [result] = await trial.deliver(event)
    assert (result.status, trial.done) == (RecordStatus.SET_ASIDE, frozenset())


async def test_a_run_ends_on_the_version_it_began_on() -> None:
    """New code takes a waiting run over by the old handlers, or by what became of its names; else the run waits."""
    seen: list[str] = []

    def version(number: str, *names: str) -> Agent:
        agent = Agent("crm", version=number)

        @agent.on(InviteeCreated)
        async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
            del event
            for name in names:
                await ctx.step(name, Outside().does(name))
            await ctx.wait_for(InviteeCanceled, timeout=DAY)
            seen.append(f"{number}: {' '.join(names)}")

        return agent

    old = version("1", "pay", "log")
    for how in (old, JournalMigration(renamed={"pay": "charge"}, dropped=["log"])):
        trial = Trial(old, clock=ManualClock(START))
        event = invitee_created("k", 1)
        await trial.deliver(event)
        new = version("2", "charge")
        new.takes_over("1", how)
        await trial.deployed(new).deliver(canceled("k", 2))
        assert event.id in trial.done
    assert seen == ["1: pay log", "2: charge"]
    for wrong in (version("2"), Agent("other", version="1")):
        with pytest.raises(ConfigurationError, match="cannot take over"):
            version("2").takes_over("1", wrong)
    with pytest.raises(ConfigurationError, match="cannot have the version"):
        Agent("crm", version="a b")


async def test_the_example_of_the_page_runs_as_it_is_written() -> None:
    """A charge, a cancellation two days later at most, its refund, and the author's own table, from the docs."""
    page = (ROOT / "docs/explanation/long-work.md").read_text(encoding="utf-8")
    [example, declared] = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    said: list[str] = []

    class Service:
        async def charge(self, uri: str, *, idempotency_key: str) -> dict[str, str]:
            said.append(f"charge {idempotency_key.rpartition(':')[2]}")
            return {"id": uri}

        async def refund(self, charge: str, *, idempotency_key: str) -> None:
            said.append(f"refund {charge[-1]} {idempotency_key.rpartition(':')[2]}")

        async def execute(self, query: str, uri: str) -> None:
            assert uri
            said.append(query.partition(" VALUES")[0])

    agent, service = Agent("crm", version="2"), Service()
    names = {"agent": agent, "payments": service, "crm_v1": SimpleNamespace(agent=Agent("crm", version="1"))}
    names |= {"Event": Event, "Context": Context, "timedelta": timedelta, "JournalMigration": JournalMigration}
    names |= {"InviteeCreated": InviteeCreated, "InviteeCanceled": InviteeCanceled}
    exec(example + declared, dict(names))  # noqa: S102 - our own page
    trial = Trial(agent, connection=service, clock=ManualClock(START))
    event = invitee_created("k", 1)
    await trial.deliver(event, canceled("k", 2))
    assert said == ["charge charge", "refund k refund", "INSERT INTO followed"]
    assert event.id in trial.done
    assert agent.versions == ("2", "1")


@pytest.mark.parametrize("how", ["approved", "denied", "expired"])
async def test_an_approval_is_decided_once_or_its_time_is_over(how: str) -> None:
    """The run is set aside until then, knows who decided, and does not ask twice."""
    clock, outside = ManualClock(START), Outside()

    async def body(ctx: Context) -> None:
        await ctx.step("look", outside.does("look"))
        decision = await ctx.approval("refund", what={"amount": 70}, person="finance", timeout=DAY)
        said = "expired" if decision.expired else f"{decision.approved} by {decision.by}"
        await ctx.step("act", outside.does(said))

    trial = trial_of(body, clock=clock)
    event = invitee_created("k", 1)
    await trial.deliver(event, canceled("k", 2))
    assert trial.waiting == {event.id}
    if how == "expired":
        clock.advance(DAY)
        await trial.go_on()
    else:
        await trial.decide(event, "refund", approved=how == "approved", by="alice")
        with pytest.raises(LookupError):
            await trial.decide(event, "refund", approved=True)
    expected = {"approved": "True by alice", "denied": "False by alice", "expired": "expired"}
    assert [name for name, _ in outside.calls] == ["look", expected[how]]
    assert event.id in trial.done


async def test_an_approval_is_for_what_was_asked() -> None:
    """Code that asks for something else in a later run has diverged; what is asked for has limits."""
    amounts = [70, 7_000]

    async def body(ctx: Context) -> None:
        await ctx.approval("refund", what={"amount": amounts.pop(0)}, person="finance", timeout=DAY)

    trial = trial_of(body)
    event = invitee_created("k", 1)
    await trial.deliver(event)
    await trial.decide(event, "refund", approved=True)
    assert "asked for something else" in trial.results[-1].reason
    assert trial.results[-1].status is RecordStatus.HELD

    async def limits(ctx: Context) -> None:
        for what, person, timeout in (
            ("x" * (MAX_ASKED_BYTES - 1), "p", DAY),
            (1, "p" * (MAX_PERSON_CHARACTERS + 1), DAY),
            (1, "", DAY),
            (1, "p", timedelta(0)),
        ):
            with pytest.raises(ValueError, match="approval"):
                await ctx.approval("one", what=what, person=person, timeout=timeout)
        await ctx.approval("one", what="x" * (MAX_ASKED_BYTES - 2), person="p" * MAX_PERSON_CHARACTERS, timeout=DAY)

    [result] = await trial_of(limits).deliver(invitee_created("k", 1))
    assert result.status is RecordStatus.SET_ASIDE
