"""Runs with steps, waits and approvals under SIGKILL, deploys and rebalances, among events without any of these.

An outside effect happens once or is told as unknown; a wait, a timeout and an approval end once; effects in the agent's
table happen once, in order; attempts are counted on; and what began on one version of the code ends on the next.
"""

from __future__ import annotations

import json
import random
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_members import MEMBERS, Members
from tests.support.agent_setup import AgentSetup, agent_setup, in_order, invitee_created, one_effect_each, until
from tests.support.long_work import canceled

AGENT = """
import asyncio
from datetime import timedelta
import asyncpg
from slotwire.handlers import Agent, JournalMigration, StepOutcomeUnknown
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy
from slotwire.ingest.foundation.settings import load_settings
from slotwire.schemas.events import InviteeCanceled, InviteeCreated

SAY = "{say}"
agent = Agent("patient", version="{version}", limit=GiveUpLimit(run=10_000, share=1.0),
              retry=RetryPolicy(attempts=3, first_seconds=0.2, longest_seconds=0.2))
if agent.version != "1":
    agent.takes_over("1", JournalMigration(renamed={{"tell": SAY}}))
one_by_one = asyncio.Lock()
connections = []

async def note(what, key, event):
    async with one_by_one:
        if not connections:
            connections.append(await asyncpg.connect(load_settings().database_url.get_secret_value()))
        await connections[0].execute("INSERT INTO outside (what, key, name) VALUES ($1, $2, $3)", what, key, event.key)

async def follow(event, ctx):
    try:
        await ctx.step("charge", lambda key: note("charge", key, event))
    except StepOutcomeUnknown:
        await ctx.step("ask", lambda key: note("unknown", key, event), on_unknown="retry")
    found = await ctx.wait_for(InviteeCanceled, where=lambda other: other.sequence % 2 == 1,
                               timeout=timedelta(seconds=1 if event.key.startswith("quiet") else 3600))
    return "none" if found is None else str(found.sequence)

async def ask(event, ctx):
    late = event.key.startswith("late")
    found = await ctx.approval("refund", what={{"of": event.key}}, person="nobody" if late else "finance",
                               timeout=timedelta(seconds=1 if late else 3600))
    return "expired" if found.expired else "approved" if found.approved else "denied"

@agent.on(InviteeCreated)
async def handle(event, ctx):
    kind = event.key.partition("-")[0]
    if kind != "plain":
        if kind == "fails":
            await ctx.step("begin", lambda key: note("begin", key, event), on_unknown="retry")
            await note(str(ctx.attempt), ctx.idempotency_key, event)
            raise ValueError("never")
        told = await (ask if kind in {{"asks", "late"}} else follow)(event, ctx)
        await ctx.step(SAY, lambda key: note("told " + told, ctx.idempotency_key, event), on_unknown="retry")
    async with ctx.transaction() as connection:
        await connection.execute("INSERT INTO effects (event_id, key, sequence) VALUES ($1, $2, $3)",
                                 event.id, event.key, event.sequence)
"""
FIRST, SECOND = AGENT.format(version="1", say="tell"), AGENT.format(version="2", say="say")
KINDS = ("quiet", "ends", "asks", "late", "fails")
PLAIN_KEYS = 20
DECIDE = """
SELECT what, yes, slotwire.decide_approval(id, digest, yes, 'test', $1) AS done
FROM (SELECT *, hashtext(what) % 2 = 0 AS yes FROM slotwire.approvals) AS asked
WHERE state = 'open' AND person = 'finance'
"""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics, a database and the outside's ledger of the test's own."""
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("CREATE TABLE outside (what text, key text, name text, n bigserial)")
    await owner.execute("GRANT ALL ON outside, outside_n_seq TO PUBLIC")
    await owner.close()
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=2) as made:
        yield made


@dataclass
class Flow:
    """Events that flow while members die.

    Attributes:
        every: each so many events begin one run of each kind.
        booked: what was published.
        decided: how each approval that somebody decided about ended, by its key.
    """

    setup: AgentSetup
    operator: asyncpg.Connection[asyncpg.Record]
    every: int
    booked: list[Event[InviteeCreated]] = field(default_factory=list)
    decided: dict[str, str] = field(default_factory=dict)

    async def publish(self, count: int) -> None:
        """Publish so many more."""
        begun = len(self.booked)
        for number in range(begun, begun + count):
            kind = KINDS[number % self.every] if number % self.every < len(KINDS) else "plain"
            key = f"{kind}-{number % PLAIN_KEYS if kind == 'plain' else number}"
            self.booked.append(invitee_created(key, 10 * number + 1))
        await self.setup.publish(*self.booked[begun:])

    async def answer(self) -> None:
        """Publish what ends the waits: of each two, only the second one may."""
        waits = [each for each in self.booked if each.key.startswith("ends")]
        await self.setup.publish(*(canceled(each.key, each.sequence + more) for each in waits for more in (1, 2)))

    async def decide(self) -> None:
        """Decide about everything that is asked for now, as an operator."""
        for row in await self.operator.fetch(DECIDE, SystemClock().now()):
            if row["done"]:
                self.decided[json.loads(row["what"])["of"]] = "approved" if row["yes"] else "denied"

    def end_of(self, event: Event[InviteeCreated]) -> str:
        """Say how the wait or approval of a run has to end."""
        always = {"quiet": "none", "late": "expired", "ends": str(event.sequence + 2)}
        return always.get(event.key.partition("-")[0]) or self.decided[event.key]

    async def progress(self) -> int:
        """Count what was done so far."""
        counted = "SELECT (SELECT count(*) FROM outside) + (SELECT count(*) FROM effects)"
        return int(await self.setup.pool.fetchval(counted))

    async def after(self, more: int) -> None:
        """Wait until so much more was done."""
        wanted = await self.progress() + more

        async def done() -> bool:
            return await self.progress() >= wanted

        await until(done, seconds=120)

    async def ended(self) -> None:
        """Wait until every event is done or given up, and decide meanwhile."""

        async def over() -> bool:
            await self.decide()
            settled = "SELECT (SELECT count(*) FROM slotwire.inbox) + (SELECT count(*) FROM slotwire.dead_letters)"
            left = "SELECT count(*) FROM slotwire.runs WHERE state <> 'given_up'"
            done = int(await self.setup.pool.fetchval(settled)) == len(self.booked)
            return done and int(await self.setup.pool.fetchval(left)) == 0

        await until(over, seconds=240)


async def killed_again_and_again(
    setup: AgentSetup, database: Database, folder: Path, *, events: int, kills: int, every: int, seed: int, named: bool
) -> None:
    """Kill members while events flow and approvals are open; now and then one leaves; half-way comes a new version."""
    chance = random.Random(seed)  # noqa: S311 - a schedule that can be drawn again, no secret
    operator = await asyncpg.connect(database.url_of["control"])
    flow = Flow(setup, operator, every)
    try:
        async with Members(setup, folder, FIRST, named=named, claim_seconds="1") as members:
            for turn in range(kills):
                await flow.publish(events * (turn + 1) // kills - len(flow.booked))
                await flow.after(chance.randint(1, max(1, events // kills // 3)))
                if turn == kills // 2:
                    members.deploy(SECOND)
                await members.end(turn % len(MEMBERS), signal.SIGKILL)
                if turn % 3 == 1:
                    await flow.decide()
                    await members.end(chance.choice(MEMBERS), signal.SIGTERM)
                if turn == kills // 2:
                    await flow.answer()
            await flow.answer()  # again, for those that came later: the same events, or a second answer to nobody
            await flow.ended()
            assert members.killed == kills
    finally:
        await operator.close()
    sys.stdout.write(f"{kills} kills, {len(flow.booked)} events, seed {seed}\n")
    await as_promised(setup, flow)


async def as_promised(setup: AgentSetup, flow: Flow) -> None:
    """Check the agent's table, what happened outside, and how waits, approvals and attempts ended."""
    fails = [each for each in flow.booked if each.key.startswith("fails")]
    effects = await setup.effects()
    assert one_effect_each(effects, [each for each in flow.booked if each not in fails])
    assert in_order(effects)
    rows = await setup.pool.fetch("SELECT what, key, name FROM outside ORDER BY n")
    followed = [each for each in flow.booked if each.key.startswith(("quiet", "ends"))]
    charges = Counter(row["name"] for row in rows if row["what"] == "charge")
    unknown = {row["name"] for row in rows if row["what"] == "unknown"}
    assert all(count == 1 for count in charges.values()), "a step without retry is called once"
    assert {each.key for each in followed if not charges[each.key]} <= unknown, "or it is told as unknown"
    told = {(row["name"], row["what"], row["key"]) for row in rows if row["what"].startswith("told")}
    expected = {
        (each.key, f"told {flow.end_of(each)}", f"patient:{each.id}")
        for each in flow.booked
        if not each.key.startswith(("plain", "fails"))
    }
    assert told == expected, "each wait and approval ended once, as it was answered, or by its time"
    attempts = defaultdict[str, list[int]](list)
    for row in rows:
        if row["what"].isdecimal():
            attempts[row["name"]].append(int(row["what"]))
    assert attempts.keys() == {each.key for each in fails}
    for key, counted in attempts.items():
        assert set(counted) == {1, 2, 3}, (key, counted)
        back = [(before, after) for before, after in pairwise(counted) if after < before]
        # What is given up begins anew if its member dies before its offset is committed.
        assert set(back) <= {(3, 1)}, (key, counted)
    given_up = await setup.pool.fetch("SELECT event_id, attempts FROM slotwire.dead_letters WHERE state = 'open'")
    assert {(row["event_id"], row["attempts"]) for row in given_up} == {(each.id, 3) for each in fails}


async def test_steps_waits_and_approvals_across_kills(setup: AgentSetup, database: Database, tmp_path: Path) -> None:
    """Named members killed at some moments, one sent away, another version deployed: everything once, or told."""
    await killed_again_and_again(setup, database, tmp_path, events=240, kills=4, every=24, seed=5, named=True)


@pytest.mark.soak
@pytest.mark.parametrize("named", [True, False])
async def test_steps_waits_and_approvals_across_twenty_kills(
    setup: AgentSetup, database: Database, tmp_path: Path, *, named: bool
) -> None:
    """The long form: twenty kills while 5,000 events flow, with stable names and without."""
    await killed_again_and_again(
        setup, database, tmp_path, events=5_000, kills=20, every=50, seed=int(named), named=named
    )
