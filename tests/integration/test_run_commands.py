"""What an operator does with runs that wait or are held: list, show, decide, cancel; and who else ends them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from slotwire.handlers import Agent, Context
from slotwire.handlers.dispatch.handle import Handling
from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.long_work.endings import StepOutcomeUnknown
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.problems import Problems
from slotwire.handlers.reach.calendly import MemoryCalls
from slotwire.handlers.reach.chains import MemoryChains
from slotwire.handlers.records import Record, SetAsideRecord
from slotwire.handlers.results import RecordStatus
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.inbox import PostgresInbox
from slotwire.handlers.testing import Trial, record_of
from slotwire.ingest.control import retention
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.foundation.settings import DatabaseSettings, MetricsSettings
from slotwire.ingest.foundation.telemetry import REGISTRY, get_logger
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.operate.run_models import MAX_DECIDED_BYTES
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import invitee_created
from tests.support.command import environment, slotwire
from tests.support.long_work import Outside
from tests.support.management_api import management_api, write_letter, write_organization, write_run, write_unknown
from tests.support.owner import owner_rows
from tests.support.public_endpoint import settings_for

LETTERS = ("slotwire_dead_letters_open", "slotwire_dead_letter_oldest_timestamp_seconds")


def handling_of(
    agent: Agent, pool: Pool, letters: Trial | None = None, journal: type[PostgresJournal] = PostgresJournal
) -> tuple[Handling, Trial]:
    """Make what handles an agent's records, with the inbox and the journal in Postgres."""
    clock, letters = SystemClock(), letters or Trial(agent)
    kept = journal(pool, agent=agent.name, clock=clock, claim_seconds=5)
    made = Handling(
        agent,
        inbox=PostgresInbox(pool, agent=agent.name, clock=clock, idle_seconds=5),
        runs=Runs(agent, kept, clock),
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


async def test_an_event_whose_attempts_are_used_up_is_given_up_without_another_run(database: Database) -> None:
    """Its member ended between the last attempt and the dead letter: the next one writes that, and calls nothing."""
    called = 0
    agent = Agent("crm", retry=RetryPolicy(attempts=2, first_seconds=0.01))

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        nonlocal called
        del event
        called += 1
        await ctx.step("begin", Outside().does("begin"))
        raise ValueError("never")

    class Dying(Trial):
        async def put(self, record: Record, why: GiveUpReason) -> None:
            del record, why
            raise asyncio.CancelledError

    record = record_of(invitee_created("k", 1), offset=1)
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=2), application="test") as pool:
        first, _ = handling_of(agent, pool, Dying(agent))
        with pytest.raises(asyncio.CancelledError):
            await first.handle(record, asyncio.Event())
        second, letters = handling_of(agent, pool)
        result = await second.handle(record, asyncio.Event())
    assert (result.status, result.attempts, called) == (RecordStatus.DEAD_LETTERED, 2, 2)
    assert len(letters.dead_letters) == 1


async def test_a_run_whose_member_dies_after_the_mark_leaves_nothing(database: Database) -> None:
    """Its event is done, and its run not ended: whoever is given the event again ends the run, and calls nothing."""
    called = 0
    agent = Agent("crm")

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        nonlocal called
        del event
        called += 1
        await ctx.step("begin", Outside().does("begin"))

    class Dying(PostgresJournal):
        async def finish(self, event_id: UUID) -> None:
            del event_id
            raise asyncio.CancelledError

    record = record_of(invitee_created("k", 1), offset=1)
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=2), application="test") as pool:
        first, _ = handling_of(agent, pool, journal=Dying)
        with pytest.raises(asyncio.CancelledError):
            await first.handle(record, asyncio.Event())
        second, _ = handling_of(agent, pool)
        assert (await second.handle(record, asyncio.Event())).status is RecordStatus.SKIPPED
        assert (await pool.fetchval("SELECT count(*) FROM slotwire.runs"), called) == (0, 1)


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


async def test_a_person_says_how_a_step_ended_and_the_run_goes_on(database: Database) -> None:
    """What it returned, and it is not called again; or that it has not happened, and it is, with the same key."""
    await write_organization(database, "TRIAL")
    called, charged, told = list[tuple[str, str]](), list[Any](), asyncio.Event()
    agent = Agent("crm")

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        async def charge(key: str) -> str:
            called.append((event.key, key))
            if not told.is_set():
                raise StepOutcomeUnknown("charge")
            return "again"

        charged.append((event.key, await ctx.step("charge", charge)))

    env = environment(settings_for(database))
    async with create_pool(database.url_of["agents"], DatabaseSettings(pool_size=2), application="test") as pool:
        handling, _ = handling_of(agent, pool)

        async def goes_on(number: int) -> RecordStatus:
            record = record_of(invitee_created(f"k{number}", number), offset=number)
            event_id = invitee_created(f"k{number}", number).id
            aside = SetAsideRecord.of(record, event_id, number)
            return (await handling.handle(aside, asyncio.Event())).status

        for number in (1, 2):
            record = record_of(invitee_created(f"k{number}", number), offset=number)
            assert (await handling.handle(record, asyncio.Event())).status is RecordStatus.HELD
            assert await goes_on(number) is RecordStatus.SKIPPED, "it is held"
        told.set()
        rows = await pool.fetch("SELECT id FROM slotwire.runs ORDER BY key")
        done, undone = (str(row["id"]) for row in rows)

        async def decide(*words: str) -> tuple[int, str]:
            result = await slotwire("agents", "runs", "decide", *words, "--why", "asked them", env=env)
            return result.code, result.stdout + result.stderr

        assert "not the last step" in (await decide(done, "another", "done"))[1]
        assert "returned nothing" in (await decide(done, "charge", "not_done", "--result", "1"))[1]
        assert "is not JSON" in (await decide(done, "charge", "done", "--result", "{"))[1]
        code, said = await decide(done, "charge", "done", "--result", '{"paid":7}')
        assert (code, "ready" in said) == (0, True)
        assert "the run is ready" in (await decide(done, "charge", "done"))[1]
        assert (await decide(undone, "charge", "not_done"))[0] == 0
        shown = await slotwire("agents", "runs", "show", done, env=env)
        assert "note:         asked them" in shown.stdout
        assert [await goes_on(number) for number in (1, 2)] == [RecordStatus.DONE, RecordStatus.DONE]
    assert charged == [("k1", {"paid": 7}), ("k2", "again")]
    keys = {key: {each for event, each in called if event == key} for key in ("k1", "k2")}
    assert [len(called), len(keys["k1"]), len(keys["k2"])] == [3, 1, 1]
    rows = await owner_rows(
        database, "SELECT target, result FROM slotwire.audit WHERE action = 'runs.decide' AND result <> 'started'"
    )
    assert sorted(tuple(row) for row in rows) == sorted(
        [(done, "done"), (undone, "done"), (done, "refused"), (done, "refused")]
    )


async def test_what_a_person_says_that_a_step_returned_has_a_limit(database: Database) -> None:
    """At the limit it is taken, one octet past it or unfit for the journal it is refused, and nothing is changed."""
    await write_organization(database, "ORG")
    held = await write_unknown(database, "ORG", 1)
    async with management_api(settings_for(database)) as api:
        key = await api.key()

        async def decided(result: str) -> int:
            body = f'{{"step":"charge","outcome":"done","why":"x","result":{result}}}'.encode()
            sent = {"Content-Type": "application/json"}
            return (await api.ask("POST", f"/v1/runs/{held}/decide", key, content=body, headers=sent)).status_code

        whole = "x" * (MAX_DECIDED_BYTES - 2)
        answers = [await decided(each) for each in (f'"{whole}x"', "9" * 30, f'"{whole}"')]
    assert answers == [400, 400, 200]


async def test_a_mark_stays_as_long_as_its_run(database: Database) -> None:
    """A run that committed and was not ended is known by its mark alone, which stays until the run is gone."""
    await write_organization(database, "ORG")
    run = await write_run(database, "ORG", 1)
    now = SystemClock().now()
    marked = (
        "INSERT INTO slotwire.inbox SELECT agent, event_id, $1::timestamptz FROM slotwire.runs"
        " UNION ALL SELECT agent, gen_random_uuid(), $1 FROM slotwire.runs"
    )
    await owner_rows(database, marked, now - timedelta(days=31))
    only = RetentionSettings(inbox_days=30)
    async with create_pool(database.url_of["control"], DatabaseSettings(pool_size=1), application="test") as pool:
        assert await retention.run_once(pool, ManualClock(now), only) == {"inbox": 1}
        await owner_rows(database, "DELETE FROM slotwire.runs WHERE id = $1", run)
        assert await retention.run_once(pool, ManualClock(now), only) == {"inbox": 1}


async def test_runs_and_open_dead_letters_show_in_the_metrics_by_age(database: Database) -> None:
    """A run that waits, and is overdue once it should have gone on ten minutes ago; a letter until it is discarded."""
    await write_organization(database, "ORG")
    await write_run(database, "ORG", 1)
    await write_letter(database, "ORG", 2)
    clock = ManualClock(SystemClock().now())
    async with create_pool(database.url_of["control"], DatabaseSettings(pool_size=1), application="test") as pool:
        due = (await pool.fetchval("SELECT due_at FROM slotwire.runs")).timestamp()
        observer = Observer(pool, clock, MetricsSettings())
        given_up = (await pool.fetchval("SELECT at FROM slotwire.dead_letters")).timestamp()
        for passed, state in ((timedelta(0), "waiting"), (timedelta(days=1, minutes=11), "overdue")):
            clock.advance(passed)
            assert await observer.run_once()
            labels = {"agent": "crm", "state": state}
            assert REGISTRY.get_sample_value("slotwire_runs", labels) == 1
            oldest = REGISTRY.get_sample_value("slotwire_run_oldest_timestamp_seconds", labels)
            assert oldest == due
            letters = [REGISTRY.get_sample_value(name, {"agent": "crm"}) for name in LETTERS]
            assert letters == [1, given_up]
        await owner_rows(database, "UPDATE slotwire.dead_letters SET state = 'discarded', note = 'x'")
        assert await observer.run_once()
        assert [REGISTRY.get_sample_value(name, {"agent": "crm"}) for name in LETTERS] == [None, None]
