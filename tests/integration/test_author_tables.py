"""An agent's own tables, and a trial on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from slotwire.handlers import Agent, Context, Event
from slotwire.handlers.author.alone import alone
from slotwire.handlers.author.past_events import past_event, try_event
from slotwire.handlers.author.tables import MAX_NAME, migrate_tables, require_tables, schema_of
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.reach.chains import BookingChain
from slotwire.handlers.testing import RecordStatus, event_of, trial_on_postgres
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import ConfigurationError, RequestRefused, SchemaMismatch
from slotwire.ingest.local.databases import Database
from slotwire.schemas.events import BookingState, InviteeCreated
from tests.support.management_api import write_events
from tests.support.public_endpoint import settings_for

NOW = datetime(2026, 11, 23, tzinfo=UTC)
URI = "https://api.calendly.com/scheduled_events/E/invitees/I"
MEETINGS = "CREATE TABLE meetings (invitee text PRIMARY KEY, n bigserial);"
BOOKING = (
    "INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees, new_invitees,"
    " marks, clears, hosts, booked_at, changed_at)"
    " VALUES ($1, 'ORG', 1, 'active', 'k', 'root', '{}', '{}', $2, '[]', '{host}', $3, $3)"
)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The owner of the test's database."""
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent with one migration, that stores who was booked."""
    made = Agent("crm-2", retry=RetryPolicy(attempts=1))

    @made.on(InviteeCreated)
    async def store(event: Event[InviteeCreated], ctx: Context) -> None:
        async with ctx.transaction() as connection:
            state = await ctx.state.get()
            await connection.execute("INSERT INTO agent_crm_2.meetings (invitee) VALUES ($1)", event.data.uri)
            ctx.state.set({"seen": [*state.get("seen", []), ctx.organization]})

    made.set_home(tmp_path)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_meetings.sql").write_text(MEETINGS)
    return made


def add(agent: Agent, name: str, sql: str) -> None:
    """Write another migration of an agent."""
    assert agent.home is not None
    (agent.home / "migrations" / f"{name}.sql").write_text(sql)


async def migrated(owner: Any, agent: Agent) -> tuple[str, ...]:
    """Apply an agent's migrations."""
    return await migrate_tables(owner, agent, role_prefix="slotwire", now=NOW)


async def test_each_migration_runs_once_and_its_files_are_held_to(owner: Any, agent: Agent, database: Database) -> None:
    """Each is applied once, in order; agents may use the tables and not change them; what is missing is named."""
    pool = asyncpg.create_pool(database.url_of["agents"], min_size=0, max_size=1)
    async with pool:
        with pytest.raises(SchemaMismatch, match="lack 0001_meetings"):
            await require_tables(pool, agent)
        assert await migrated(owner, agent) == ("0001_meetings",)
        add(agent, "0002_notes", "CREATE TABLE notes (text text);")
        with pytest.raises(SchemaMismatch, match="lack 0002_notes"):
            await require_tables(pool, agent)
        assert await migrated(owner, agent) == ("0002_notes",)
        assert await migrated(owner, agent) == ()
        await require_tables(pool, agent)
        await pool.execute("INSERT INTO agent_crm_2.meetings (invitee) VALUES ('x')")
        for refused in ("DROP TABLE agent_crm_2.notes", "DELETE FROM agent_crm_2.applied_migrations"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(refused)
        add(agent, "0001_meetings", f"{MEETINGS} -- changed")
        with pytest.raises(SchemaMismatch, match="0001_meetings of agent crm-2 was changed after"):
            await require_tables(pool, agent)
    add(agent, "0001_meetings", MEETINGS)
    add(agent, "0001_late", "SELECT 1;")
    with pytest.raises(ConfigurationError, match="has no place among the migrations"):
        await migrated(owner, agent)
    add(agent, "0000_late", "SELECT 1;")
    assert agent.home is not None
    (agent.home / "migrations" / "0001_late.sql").unlink()
    with pytest.raises(SchemaMismatch, match="0000_late of agent crm-2 comes before 0002_notes"):
        await migrated(owner, agent)


REFUSED = {
    "SELECT * FROM slotwire.connections;": "permission denied",
    "DROP TABLE slotwire.inbox;": "permission denied",
    "CREATE TABLE public.mine (x int);": "permission denied",
    "SELECT 1 / 0;": "division by zero",
    "ROLLBACK;": "ended its transaction by itself",
}


async def test_a_migration_reaches_its_own_schema_only(owner: Any, agent: Agent) -> None:
    """One that reaches for ours, fails or ends its transaction is refused in Postgres' words, and leaves nothing."""
    await migrated(owner, agent)
    for sql, said in REFUSED.items():
        add(agent, "0002_more", f"CREATE TABLE more (x int); {sql}")
        with pytest.raises(SchemaMismatch) as caught:
            await migrated(owner, agent)
        assert said in caught.value.message
        assert "0002_more" in caught.value.message
        assert not await owner.fetchval("SELECT to_regclass('agent_crm_2.more') IS NOT NULL")
    add(agent, "0002_more", "CREATE TABLE more (x int);")
    assert await migrated(owner, agent) == ("0002_more",)


def test_a_name_that_is_too_long_for_a_schema_is_refused() -> None:
    """At the limit it is a schema's; one past it, the author is told."""
    assert schema_of(Agent("a" * MAX_NAME)) == f"agent_{'a' * MAX_NAME}"
    with pytest.raises(ConfigurationError, match="too long"):
        schema_of(Agent("a" * (MAX_NAME + 1)))


async def test_a_trial_on_postgres_is_the_real_thing(database: Database, owner: Any, agent: Agent) -> None:
    """Tables are made, effects committed with the mark and the state, a second delivery skipped, a failure undone."""
    uris = [f"{URI}{number}" for number in (1, 2)]
    state = BookingState(state="active", revision=1, chain_root=URI)
    first, other = (event_of(InviteeCreated(uri=uri, booking=state), key="k", organization="ORG") for uri in uris)
    again = event_of(first.data, key="k", organization="ORG", sequence=2)
    async with trial_on_postgres(agent, database) as trial:
        await trial.deliver(first, first, again, other)
        assert [each.status for each in trial.results] == [
            RecordStatus.DONE,
            RecordStatus.SKIPPED,
            RecordStatus.DEAD_LETTERED,  # the row is there: nothing of this run is kept
            RecordStatus.DONE,
        ]
        rows = await trial.fetch("SELECT invitee FROM agent_crm_2.meetings ORDER BY n")
        assert [row["invitee"] for row in rows] == uris
    kept = await owner.fetch("SELECT agent, org, key, value FROM slotwire.agent_state")
    assert [tuple(row) for row in kept] == [("crm-2", "ORG", "k", '{"seen": ["ORG", "ORG"]}')]
    marked = await owner.fetch("SELECT event_id FROM slotwire.inbox WHERE agent = 'crm-2'")
    assert {row["event_id"] for row in marked} == {first.id, other.id}


async def test_a_booking_comes_with_its_chain(database: Database, owner: Any) -> None:
    """Inside a transaction and outside, by the agents' role; a no-show is one while a mark is set."""
    found: list[BookingChain | None] = []
    agent = Agent("reader", retry=RetryPolicy(attempts=1))

    @agent.on(InviteeCreated)
    async def read(event: Event[InviteeCreated], ctx: Context) -> None:
        del event
        found.append(await ctx.booking())
        async with ctx.transaction():
            found.append(await ctx.booking())

    await owner.execute(BOOKING, f"{URI}2", '[{"uri": "m", "cleared_at": null}]', NOW)
    await owner.execute(BOOKING, URI, "[]", NOW.replace(year=2025))
    state = BookingState(state="active", revision=1, chain_root=URI)
    known, unknown = (event_of(InviteeCreated(uri=uri, booking=state), organization="ORG") for uri in (f"{URI}2", "x"))
    foreign = event_of(known.data, organization="ANOTHER")
    async with trial_on_postgres(agent, database) as trial:
        await trial.deliver(known)
        await trial.deliver(unknown, foreign)
    outside, inside, *none = found
    assert outside == inside
    assert outside is not None
    assert (outside.booking.no_show, outside.booking.hosts, outside.booking.invitee) == (True, ("host",), f"{URI}2")
    assert [(each.invitee, each.no_show) for each in outside.chain] == [(URI, False), (f"{URI}2", True)]
    assert none == [None] * 4


async def test_a_past_event_is_tried_and_leaves_nothing(database: Database, owner: Any, agent: Agent) -> None:
    """Its statements are shown with what came of them, a failure with its message, and nothing is kept of either."""
    await migrated(owner, agent)
    data = InviteeCreated(uri=URI, booking=BookingState(state="active", revision=1, chain_root=URI)).model_dump_json()
    [event_id] = await write_events(database, "ORG", 1, data=data.encode())
    connection = await asyncpg.connect(database.url_of["agents"])
    try:
        event = await past_event(connection, event_id)
        assert (event.organization, event.origin, event.data.uri) == ("ORG", "webhook", URI)  # type: ignore[attr-defined]  # it is an InviteeCreated
        said: list[str] = []

        async def tried() -> bool:
            said.clear()
            async with ControlClient("") as control:
                return await try_event(agent, event, connection, control=control, clock=SystemClock(), say=said.append)

        assert await tried()
        text = "\n".join(said)
        for line in ("INSERT INTO agent_crm_2.meetings (invitee) VALUES ($1)", URI, "INSERT 0 1", "rolled back"):
            assert line in text
        assert "answered: done" in text
        await connection.execute("INSERT INTO agent_crm_2.meetings (invitee) VALUES ($1)", URI)
        assert not await tried()
        assert 'UniqueViolationError: duplicate key value violates unique constraint "meetings_pkey"' in "\n".join(said)
        with pytest.raises(RequestRefused, match="no event with this id"):
            await past_event(connection, event.id.__class__(int=1))
        with pytest.raises(RequestRefused, match="has no handler"):
            async with ControlClient("") as control:
                await try_event(Agent("none"), event, connection, control=control, clock=SystemClock(), say=said.append)
    finally:
        await connection.close()
    assert await owner.fetchval("SELECT count(*) FROM agent_crm_2.meetings") == 1
    assert not await owner.fetchval(
        "SELECT EXISTS (SELECT FROM slotwire.inbox) OR EXISTS (SELECT FROM slotwire.agent_state)"
    )


async def test_an_agent_is_developed_by_one_process(database: Database, agent: Agent) -> None:
    """A second `slotwire agents dev` of the same name is refused, and starts once the first has ended."""
    settings = settings_for(database)
    async with alone([agent], settings), alone([Agent("other")], settings):
        with pytest.raises(ConfigurationError, match="agent crm-2 runs on this stack already") as caught:
            async with alone([agent], settings, patience=0):
                pytest.fail("it runs")
        assert "another name" in caught.value.remedy
    async with alone([agent], settings):
        pass
