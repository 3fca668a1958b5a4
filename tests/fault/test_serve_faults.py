"""The public endpoint when it, its Postgres or its client dies: nothing acknowledged is ever lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from tests.support.agent_setup import until
from tests.support.children import Process, environment, free_port, process
from tests.support.keepalive_load import LoadCounts, request, send_until_stopped
from tests.support.public_endpoint import (
    Endpoint,
    Hook,
    invitee_body,
    make_hook,
    new_invitee,
    running_endpoint,
    settings_for,
)
from tests.support.writing import write_all

CONNECTIONS = 64


async def stored(database: Database) -> list[str]:
    """Write what was accepted; return the invitees in the log, in its order."""
    await write_all(settings_for(database))
    connection = await asyncpg.connect(database.owner_url)
    try:
        rows = await connection.fetch("SELECT subject FROM slotwire.events ORDER BY position")
    finally:
        await connection.close()
    return [row["subject"] for row in rows]


@asynccontextmanager
async def under_load(
    port: int, hook: Hook, connections: int = CONNECTIONS, *, leaves_when_told: bool = False
) -> AsyncIterator[LoadCounts]:
    """Keep so many connections sending while the block runs."""
    counts, stop = LoadCounts(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(send_until_stopped(port, hook, counts, stop, leaves_when_told=leaves_when_told))
        yield counts
        stop.set()


@asynccontextmanager
async def serving(settings: Settings, *, drain_seconds: float = 0.05) -> AsyncIterator[tuple[Process, int]]:
    """Run `slotwire serve` as a child; yields it and its public port."""
    port = free_port()
    env = environment(settings, SLOTWIRE_HTTP__PORT=str(port), SLOTWIRE_HTTP__DRAIN_SECONDS=str(drain_seconds))
    async with process("serve", env=env) as serve:
        await serve.until_ready()
        yield serve, port


async def kill_again_and_again(database: Database, kills: int) -> LoadCounts:
    """Kill the service under load, so many times; return what the load saw."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with serving(settings) as (serve, port), under_load(port, hook) as counts:
        for _ in range(kills):
            await counts.until_more(100)
            await serve.kill()
            await serve.restart()
        await counts.until_more(100)
    return counts


async def test_killing_the_service_loses_nothing_acknowledged(database: Database) -> None:
    """After kill -9 again and again under 64 connections, every acknowledged delivery is in the log, once."""
    counts = await kill_again_and_again(database, kills=3)
    log = await stored(database)
    assert counts.acknowledged <= set(log)
    assert len(log) == len(set(log))
    assert counts.cut > 0


@pytest.mark.soak
async def test_killing_the_service_thirty_times(database: Database) -> None:
    """The long form: thirty kills."""
    counts = await kill_again_and_again(database, kills=30)
    log = await stored(database)
    assert counts.acknowledged <= set(log)
    assert len(log) == len(set(log))


async def test_killing_postgres_loses_nothing_acknowledged(breakable_stack: Stack, database: Database) -> None:
    """Requests in flight get 503, never 200; after recovery every acknowledged one is there; no restart of ours."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with serving(settings) as (serve, port), under_load(port, hook, 16) as counts:
        for _ in range(2):
            await counts.until_more(100)
            await breakable_stack.postgres.kill()
            await breakable_stack.postgres.restart()
            await counts.until_more(100)
        assert serve.child.returncode is None
    log = await stored(database)
    assert counts.acknowledged <= set(log)
    assert len(log) == len(set(log))
    assert set(counts.answered) <= {200, 503}
    assert counts.cut == 0


async def test_a_frozen_postgres_is_503_within_the_deadline(breakable_stack: Stack, database: Database) -> None:
    """While Postgres is stopped each delivery is answered 503 with Retry-After in time, and later by itself 200."""
    settings = settings_for(database, answer_deadline_seconds=1.0)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        await until_taken(endpoint, hook)  # the first time, too, may take longer than this deadline
        breakable_stack.postgres.freeze()
        try:
            async with asyncio.timeout(20):
                answers = await asyncio.gather(*(endpoint.deliver(hook, invitee_body()) for _ in range(8)))
        finally:
            breakable_stack.postgres.thaw()
        assert {answer.status_code for answer in answers} == {503}
        assert all("Retry-After" in answer.headers for answer in answers)
        await until_taken(endpoint, hook)

        async def well() -> bool:
            return await endpoint.health.problems() == {}

        await until(well)


async def until_taken(endpoint: Endpoint, hook: Hook) -> None:
    """Send deliveries until one is acknowledged."""
    async with asyncio.timeout(60):
        while (await endpoint.deliver(hook, invitee_body())).status_code != 200:
            pass


async def test_postgres_away_at_the_start_is_503_not_401(breakable_stack: Stack, database: Database) -> None:
    """A hook that cannot be looked up is not a hook nobody has; the process starts, and is not ready."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    await breakable_stack.postgres.kill()
    async with running_endpoint(settings) as endpoint:
        assert (await endpoint.deliver(hook, invitee_body())).status_code == 503
        assert "postgres" in await endpoint.health.problems()
        await breakable_stack.postgres.restart()
        assert (await endpoint.deliver(hook, invitee_body())).status_code == 200


async def test_a_client_that_disconnects_midway_makes_no_second_event(database: Database) -> None:
    """A sender that hangs up before its answer and tries again is answered 2xx; there is one event."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    invitee = new_invitee()
    body = invitee_body(invitee=invitee)
    async with running_endpoint(settings) as endpoint:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
            writer.write(request(hook, body))
            await writer.drain()
            writer.transport.abort()
        assert (await endpoint.deliver(hook, body)).status_code == 200
    assert await stored(database) == [invitee]


async def test_a_stop_resets_no_client_that_keeps_its_connection(database: Database) -> None:
    """On SIGTERM 64 busy keep-alive clients are told to close, and none is cut off; readiness goes first."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with (
        serving(settings, drain_seconds=2.0) as (serve, port),
        under_load(port, hook, leaves_when_told=True) as counts,
    ):
        await counts.until_more(200)
        serve.child.send_signal(signal.SIGTERM)
        await serve.until_problem("stopping")
        await counts.until(lambda each: each.told_to_close >= CONNECTIONS)
        async with asyncio.timeout(60):
            await serve.child.wait()
    assert serve.child.returncode == 0
    assert counts.cut == 0
    assert set(counts.answered) == {200}
    assert counts.acknowledged <= set(await stored(database))
