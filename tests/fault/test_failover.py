"""A primary that is lost, or turns read-only, under load: every process goes over to the next one by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from slotwire.ingest.foundation.settings import KafkaSettings, Settings
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from tests.support.children import Process, environment, free_port, process
from tests.support.keepalive_load import LoadCounts, send_until_stopped
from tests.support.public_endpoint import Hook, make_hook, settings_for
from tests.support.standby import Pair, primary_and_standby, superuser

CONNECTIONS = 8
READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = on"


@asynccontextmanager
async def under_load(port: int, hook: Hook) -> AsyncIterator[LoadCounts]:
    """Keep connections sending while the block runs."""
    counts, stop = LoadCounts(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(send_until_stopped(port, hook, counts, stop))
        yield counts
        stop.set()


async def invitees(database: Database) -> set[str]:
    """Return the invitees of all deliveries that are stored."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        rows = await owner.fetch("SELECT body FROM slotwire.deliveries")
    finally:
        await owner.close()
    return {orjson.loads(row["body"])["payload"]["uri"] for row in rows}


async def lose_primaries(pair: Pair, *, synchronous: bool) -> int:
    """Kill the primary under load and promote the standby; print the figures, and return how many were lost.

    Of those that the standby had once caught up with, none may be.
    """
    if synchronous:
        await pair.require_standby()
    settings = settings_for(pair.on_primary)
    settings = settings.model_copy(update={"database_url": SecretStr(pair.url_of_either())})
    hook, port = await make_hook(settings, pair.on_primary), free_port()
    await pair.caught_up()
    loop = asyncio.get_running_loop()
    async with process("serve", env=environment(settings, SLOTWIRE_HTTP__PORT=str(port))) as serve:
        await serve.until_ready()
        async with under_load(port, hook) as counts:
            await counts.until_more(100)
            copied = set(counts.acknowledged)
            await pair.caught_up()
            lost_at = loop.time()
            await pair.primary.kill()
            await pair.standby.promote()
            await counts.until_more(1)
            gap = loop.time() - lost_at
            await counts.until_more(100)
        await serve.until_ready()
        assert serve.child.returncode is None
    gone = counts.acknowledged - await invitees(pair.on_standby)
    assert not gone & copied
    lost = len(gone)
    kind = "synchronous" if synchronous else "asynchronous"
    print(f"{kind} standby promoted: {len(counts.acknowledged)} acknowledged, {lost} lost, gap {gap:.1f} s")  # noqa: T201 - the figures
    return lost


async def test_a_synchronous_standby_loses_nothing_acknowledged() -> None:
    """The primary is killed under load: what was acknowledged is on the standby, and `serve` goes on by itself."""
    async with primary_and_standby() as pair:
        assert await lose_primaries(pair, synchronous=True) == 0


async def test_an_asynchronous_standby_goes_on_and_may_lose_the_last_commits() -> None:
    """`serve` goes on all the same; only what the standby had not copied yet is lost, as `doctor` says beforehand."""
    async with primary_and_standby() as pair:
        assert await lose_primaries(pair, synchronous=False) >= 0


@pytest.mark.soak
async def test_ten_primaries_lost_one_after_the_other() -> None:
    """The long form: ten pairs, none of which loses an acknowledged delivery."""
    for _ in range(10):
        async with primary_and_standby() as pair:
            assert await lose_primaries(pair, synchronous=True) == 0


@pytest.fixture
async def kafka(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    """A broker with the topics made."""
    settings = KafkaSettings(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=2,
        replication_factor=1,
        min_insync_replicas=1,
    )
    await ensure_topics(settings)
    return settings


def all_processes(settings: Settings, kafka: KafkaSettings) -> dict[str, str]:
    """Write the environment of every process."""
    return environment(
        settings,
        SLOTWIRE_HTTP__PORT="0",
        SLOTWIRE_ADMIN__PORT="0",
        SLOTWIRE_CALENDLY__API_URL="http://127.0.0.1:9",
        SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        SLOTWIRE_KAFKA__TOPIC_PREFIX=kafka.topic_prefix,
        SLOTWIRE_KAFKA__PARTITIONS="2",
        SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
        SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
    )


async def test_every_process_leaves_a_primary_that_turned_read_only(kafka: KafkaSettings) -> None:
    """Sessions that were open when it turned read-only are left: not ready meanwhile, then ready on the next."""
    async with primary_and_standby() as pair, AsyncExitStack() as running:
        settings = settings_for(pair.on_primary)
        settings = settings.model_copy(update={"database_url": SecretStr(pair.url_of_either())})
        env = all_processes(settings, kafka)
        commands = (["serve"], ["control"], ["relay"], ["agents", "run", "slotwire.handlers.agents.demo:agent"])
        processes: list[Process] = [
            await running.enter_async_context(process(*command, env=env)) for command in commands
        ]
        for each in processes:
            await each.until_ready()
        await pair.caught_up()
        async with superuser(pair.primary) as connection:
            await connection.execute(READ_ONLY)
            await connection.execute("SELECT pg_reload_conf()")
        for each in processes:
            await each.until_problem("read-only")
        await pair.standby.promote()
        for each in processes:
            await each.until_ready()
        assert [each.child.returncode for each in processes] == [None] * 4


async def test_a_stop_does_not_wait_for_a_server_that_says_nothing(
    breakable_stack: Stack, database: Database, kafka: KafkaSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    """With every connection silently dead, SIGTERM ends each process with 0, in time and without a traceback."""
    env = all_processes(settings_for(database), kafka)
    commands = (["serve"], ["control"], ["agents", "run", "slotwire.handlers.agents.demo:agent"])
    async with AsyncExitStack() as running:
        processes = [await running.enter_async_context(process(*command, env=env)) for command in commands]
        for each in processes:
            await each.until_ready()
        breakable_stack.postgres.freeze()
        try:
            for each in processes:
                each.child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(25):
                codes = [await each.child.wait() for each in processes]
        finally:
            breakable_stack.postgres.thaw()
    assert codes == [0, 0, 0]
    assert "Traceback" not in capfd.readouterr().err


async def test_the_relay_holds_while_a_right_is_missing(database: Database, kafka: KafkaSettings) -> None:
    """A right that is taken away, as while a restore runs, makes it hold and say so; with the right back it goes on."""
    owner = await asyncpg.connect(database.owner_url)
    env = all_processes(settings_for(database), kafka)
    try:
        await owner.execute("REVOKE EXECUTE ON FUNCTION slotwire.take_epoch FROM slotwire_relay")
        async with process("relay", env=env) as relay:
            problem = await relay.until_problem("lacks a right it needs")
            assert "slotwire migrate" in problem
            await owner.execute("GRANT EXECUTE ON FUNCTION slotwire.take_epoch TO slotwire_relay")
            await relay.until_ready()
    finally:
        await owner.close()
