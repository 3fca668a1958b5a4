"""PgBouncer in front of Postgres: session mode works, the other modes are refused by their name."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from slotwire.ingest.errors import DatabaseUnavailable, DatabaseUnfit
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import connect, create_pool
from slotwire.ingest.foundation.postgres_readiness import postgres_problem
from slotwire.ingest.foundation.settings import DatabaseSettings, KafkaSettings, Settings
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.children import Child
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.folders import unprivileged_account
from slotwire.ingest.operate.doctor import examine
from tests.support.children import environment, free_port, process
from tests.support.public_endpoint import invitee_body, make_hook, running_endpoint, settings_for
from tools.drills import program

pytestmark = pytest.mark.drills

SECONDS = 60
IGNORED = (
    "lock_timeout,statement_timeout,idle_in_transaction_session_timeout,client_connection_check_interval,"
    "tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout,enable_seqscan,enable_hashjoin,"
    "enable_mergejoin,plan_cache_mode,timezone,role"
)
"""What an operator may have listed: the startup parameters that we would like to set."""


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer.

    Attributes:
        url: the address of the test's database, by way of it.
        relay_url: the same with the login of the relay.
        serve_url: the same with that of `serve`.
    """

    url: str
    relay_url: str
    serve_url: str


@asynccontextmanager
async def pooler(database: Database, mode: str, **settings: object) -> AsyncIterator[Pooler]:
    """Run PgBouncer before a database while the block runs."""
    folder, port = Path(tempfile.mkdtemp(prefix="slotwire-")), free_port()
    server = urlsplit(database.runtime_url)
    options: dict[str, object] = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": folder / "users.txt",
        "pool_mode": mode,
        **settings,
    }
    written = "\n".join(f"{name} = {value}" for name, value in options.items())
    logins = [urlsplit(url) for url in (database.runtime_url, *database.url_of.values())]
    (folder / "users.txt").write_text("".join(f'"{login.username}" "{login.password}"\n' for login in logins))
    (folder / "pooler.ini").write_text(f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n{written}\n")
    account = unprivileged_account()
    if account is not None:
        for name in ("", "users.txt", "pooler.ini"):
            os.chown(folder / name, account.uid, account.gid)
    child = Child.spawn(
        "PgBouncer",
        [program("pgbouncer"), folder / "pooler.ini"],
        log=folder / "log",
        environment={},
        account=account,
    )
    logged_in = (database.runtime_url, database.url_of["relay"], database.url_of["serve"])
    url, relay, serve = (each.replace(f":{server.port}/", f":{port}/") for each in logged_in)
    try:
        async with asyncio.timeout(SECONDS):
            while not await _listens(port):
                assert child.process.poll() is None, (folder / "log").read_text()
        yield Pooler(url, relay, serve)
    finally:
        child.process.kill()
        child.process.wait()
        shutil.rmtree(folder)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def by_way_of(settings: Settings, pooler: Pooler) -> Settings:
    """Let settings lead to a pooler."""
    return settings.model_copy(update={"database_url": SecretStr(pooler.serve_url)})


@pytest.mark.parametrize("servers", [1, 2, 5])
@pytest.mark.parametrize("round_robin", [0, 1])
async def test_transaction_mode_is_refused_by_its_name(servers: int, round_robin: int, database: Database) -> None:
    """Whatever the size of its pool and whichever server it gives next, idle or busy, the mode is found out."""
    options = {"default_pool_size": servers, "server_round_robin": round_robin, "ignore_startup_parameters": IGNORED}
    async with pooler(database, "transaction", **options) as between:
        with pytest.raises(DatabaseUnfit, match="a pooler in transaction mode") as caught:
            await connect(between.url, DatabaseSettings(), application="test")
        assert "session mode" in caught.value.remedy
        settings = by_way_of(settings_for(database), between)
        hook = await make_hook(settings, database)
        async with running_endpoint(settings) as endpoint:
            answers = [await endpoint.deliver(hook, invitee_body()) for _ in range(4)]
            problem = (await endpoint.health.problems())["postgres"]
        assert {answer.status_code for answer in answers} == {503}
        assert "a pooler in transaction mode" in problem
        assert "fsync" not in problem


@pytest.mark.parametrize("round_robin", [0, 1])
async def test_transaction_mode_is_refused_to_each_of_many_at_once(round_robin: int, database: Database) -> None:
    """Those who open sessions at the same time move the processes about, and hide the mode from nobody."""
    options = {"default_pool_size": 2, "server_round_robin": round_robin, "ignore_startup_parameters": IGNORED}

    async def open_often(url: str) -> None:
        for _ in range(60):
            with pytest.raises(DatabaseUnfit, match="a pooler in transaction mode"):
                await connect(url, DatabaseSettings(), application="test")

    async with pooler(database, "transaction", **options) as between:
        await asyncio.gather(*(open_often(between.url) for _ in range(3)))


@pytest.mark.parametrize("moved", [0, 1])
async def test_a_session_that_was_given_another_process_is_not_used_again(moved: int, database: Database) -> None:
    """What opening could not see, because the mode was changed later, is seen after a use."""
    async with pooler(database, "session") as between:
        session = await connect(between.url, DatabaseSettings(), application="test")
        session.server_process += moved
        await session.reset()
        assert session.is_closed() is bool(moved)
        await session.close()


async def test_statement_mode_is_refused_by_its_name(database: Database) -> None:
    """A pooler that takes no transactions says so itself, and we say it on."""
    async with pooler(database, "statement", ignore_startup_parameters=IGNORED) as between:
        with pytest.raises(DatabaseUnfit, match="a pooler in statement mode"):
            await connect(between.url, DatabaseSettings(), application="test")


@pytest.mark.parametrize("ignored", ["", IGNORED])
async def test_session_mode_has_our_limits_in_force(ignored: str, database: Database) -> None:
    """Whether it refuses our startup parameters or ignores them: they are set, and set again after each use."""
    async with (
        pooler(database, "session", ignore_startup_parameters=ignored) as between,
        create_pool(between.url, DatabaseSettings(), application="test") as pool,
    ):
        for _ in range(3):
            async with pool.acquire() as connection:
                assert await connection.fetchval("SHOW lock_timeout") == "3s"
                assert await connection.fetchval("SHOW statement_timeout") == "5s"
                assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"
                await connection.execute("SET lock_timeout = 0")
        assert await postgres_problem(pool) is None


async def test_a_used_up_pool_in_session_mode_is_no_other_mode(database: Database) -> None:
    """Where no second session is to be had, the one that there is works."""
    async with pooler(database, "session", default_pool_size=1) as between:
        session = await connect(between.url, DatabaseSettings(), application="test")
        assert await session.fetchval("SELECT 1") == 1
        await session.close()


async def test_deliveries_are_written_and_published_in_session_mode(
    database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """`serve` acknowledges, and a relay leads and writes, both by way of a pooler."""
    async with AsyncExitStack() as stop, pooler(database, "session", default_pool_size=30) as between:
        settings = by_way_of(settings_for(database), between)
        hook = await make_hook(settings, database)
        kafka = {"SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap, "SLOTWIRE_KAFKA__TOPIC_PREFIX": topic_prefix}
        one = {"partitions": 2, "replication_factor": 1, "min_insync_replicas": 1}
        broker = {"bootstrap_servers": kafka_bootstrap, "topic_prefix": topic_prefix, **one}
        await ensure_topics(KafkaSettings.model_validate(broker))
        owner = await asyncpg.connect(database.owner_url)
        stop.push_async_callback(owner.close)
        env = environment(settings, SLOTWIRE_DATABASE_URL=between.relay_url, **kafka)
        async with running_endpoint(settings) as endpoint, process("relay", env=env):
            answers = [(await endpoint.deliver(hook, invitee_body())).status_code for _ in range(20)]
            assert answers == [200] * 20, await endpoint.health.problems()
            async with asyncio.timeout(SECONDS):
                while await owner.fetchval("SELECT count(*) FROM slotwire.events") < 20:
                    pass


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda url: url.replace("slotwire_app:", "slotwire_app:wrong"), "refused the user or the password"),
        (lambda url: url.replace("slotwire_app:", "nobody:"), "refused the user or the password"),
        (lambda url: url + "_not", "no such database"),
        (lambda url: url + "?search_path=x", "does not take what the address sets: search_path"),
    ],
    ids=["password", "user", "database", "parameter"],
)
async def test_what_a_pooler_refuses_is_told_apart(wrong: Callable[[str], str], words: str, database: Database) -> None:
    """A pooler has one SQLSTATE for all that it refuses; the sentence is the one that Postgres itself would get."""
    async with pooler(database, "session") as between:
        with pytest.raises(DatabaseUnavailable, match=words) as caught:
            await connect(wrong(between.url), DatabaseSettings(), application="test")
    assert "SLOTWIRE_DATABASE_URL" in caught.value.remedy


async def test_the_doctor_names_the_mode(database: Database) -> None:
    """Transaction mode fails with what to do; session mode is reported, and nothing is to be done."""
    async with pooler(database, "transaction", ignore_startup_parameters=IGNORED) as between:
        settings = by_way_of(settings_for(database), between)
        found = {each.check: each async for each in examine(settings, SystemClock())}["postgres"]
    assert (found.state, "transaction mode" in found.message, "session mode" in found.remedy) == ("failed", True, True)
    async with pooler(database, "session") as between:
        settings = by_way_of(settings_for(database), between)
        found = {each.check: each async for each in examine(settings, SystemClock())}["postgres"]
    assert (found.state, "by way of a pooler in session mode" in found.message) == ("ok", True)
