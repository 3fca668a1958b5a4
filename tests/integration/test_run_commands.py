"""What an operator does with runs that wait or are held: list, show and cancel them; and who else ends them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from slotwire.handlers import Agent, Context
from slotwire.handlers.calendly import MemoryCalls
from slotwire.handlers.chains import MemoryChains
from slotwire.handlers.handle import Handling
from slotwire.handlers.inbox import PostgresInbox
from slotwire.handlers.postgres_journal import PostgresJournal
from slotwire.handlers.problems import Problems
from slotwire.handlers.results import RecordStatus
from slotwire.handlers.runs import Runs
from slotwire.handlers.testing import Trial, record_of
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings, MetricsSettings
from slotwire.ingest.foundation.telemetry import REGISTRY, get_logger
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created
from tests.support.command import environment, slotwire
from tests.support.management_api import management_api, write_organization, write_run
from tests.support.public_endpoint import settings_for


def handling_of(agent: Agent, pool: Pool) -> tuple[Handling, Trial]:
    """Make what handles an agent's records, with the inbox and the journal in Postgres."""
    clock, letters = SystemClock(), Trial(agent)
    journal = PostgresJournal(pool, agent=agent.name, clock=clock, claim_seconds=5)
    made = Handling(
        agent,
        inbox=PostgresInbox(pool, agent=agent.name, clock=clock, idle_seconds=5),
        runs=Runs(agent, journal, clock),
        dead_letters=letters,
        chains=MemoryChains(),
        calls=MemoryCalls(),
        problems=Problems(agent.name, get_logger("test")),
        clock=clock,
    )
    return made, letters


async def test_a_run_is_listed_shown_and_cancelled(database: Database) -> None:
    """By command, with --json; what its step returned is shown, and afterwards its event counts as done."""
    await write_organization(database, "ORG")
    first, second = await write_run(database, "ORG", 1), await write_run(database, "ORG", 2, agent="other")
    env = environment(settings_for(database))

    async def typed(*words: str) -> list[dict[str, Any]]:
        result = await slotwire("agents", "runs", *words, "--json", env=env)
        assert result.code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    assert {each["id"] for each in await typed("list")} == {str(first), str(second)}
    [listed] = await typed("list", "crm", "--state", "waiting")
    assert (listed["id"], listed["waits_for"], listed["organization"]) == (str(first), "the end", "ORG")
    [shown] = await typed("show", str(first))
    assert [(each["name"], each["result"]) for each in shown["journal"]] == [
        ("charge", '{"paid":7}'),
        ("the end", None),
    ]
    plain = await slotwire("agents", "runs", "show", str(first), env=env)
    assert 'step charge: ended\n  {"paid":7}\n\nwait the end: open until' in plain.stdout
    [ended] = await typed("cancel", str(first))
    assert ended["state"] == "canceled"
    assert [each["id"] for each in await typed("list")] == [str(second)]
    again = await slotwire("agents", "runs", "cancel", str(first), env=env)
    assert (again.code, "no such run within reach" in again.stderr) == (1, True)
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=1), application="test") as pool:
        inbox = PostgresInbox(pool, agent="crm", clock=SystemClock(), idle_seconds=5)
        assert await inbox.seen(UUID(str(listed["event_id"])))


async def test_a_run_that_is_cancelled_or_whose_organization_goes_writes_nothing_more(database: Database) -> None:
    """While its step is under way: the step's result is refused, the run ends, and it is not begun again."""
    await write_organization(database, "TRIAL")
    working, go_on, calls = asyncio.Event(), asyncio.Event(), 0
    agent = Agent("crm")

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        del event

        async def wait(key: str) -> None:
            nonlocal calls
            del key
            calls += 1
            working.set()
            await go_on.wait()

        await ctx.step("long", wait)
        raise AssertionError("it went on")

    settings = settings_for(database)
    async with (
        create_pool(database.url_of["agents"], DatabaseSettings(pool_size=2), application="test") as pool,
        management_api(settings) as api,
    ):
        handling, letters = handling_of(agent, pool)
        for number, end in enumerate(("cancel", "organization"), start=1):
            working.clear()
            go_on.clear()
            record = record_of(invitee_created("k", number), offset=number)
            handled = asyncio.create_task(handling.handle(record, asyncio.Event()))
            await working.wait()
            if end == "cancel":
                run_id = await pool.fetchval("SELECT id FROM slotwire.runs")
                key = await api.key()
                assert (await api.ask("POST", f"/v1/runs/{run_id}/cancel", key)).status_code == 200
            else:
                await api.actions.organizations.organizations(COMMAND_LINE).remove("TRIAL")
            go_on.set()
            assert (await handled).status is RecordStatus.SKIPPED
            assert (await handling.handle(record, asyncio.Event())).status is RecordStatus.SKIPPED
        assert (calls, letters.dead_letters) == (2, [])
        assert await pool.fetchval("SELECT count(*) FROM slotwire.runs") == 0


async def test_runs_show_in_the_metrics_by_state_and_age(database: Database) -> None:
    """Waiting, and overdue once it should have gone on ten minutes ago."""
    await write_organization(database, "ORG")
    await write_run(database, "ORG", 1)
    clock = ManualClock(SystemClock().now())
    async with create_pool(database.url_of["control"], DatabaseSettings(pool_size=1), application="test") as pool:
        due = (await pool.fetchval("SELECT due_at FROM slotwire.runs")).timestamp()
        observer = Observer(pool, clock, MetricsSettings())
        for passed, state in ((timedelta(0), "waiting"), (timedelta(days=1, minutes=11), "overdue")):
            clock.advance(passed)
            assert await observer.run_once()
            labels = {"agent": "crm", "state": state}
            assert REGISTRY.get_sample_value("slotwire_runs", labels) == 1
            oldest = REGISTRY.get_sample_value("slotwire_run_oldest_timestamp_seconds", labels)
            assert oldest == due
