"""The system's own Postgres, with TLS: what is in the way is told apart, and Slotwire works on its version."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from pydantic import SecretStr

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation import migrations
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.migrations import PROCESSES, migrate, role_of
from slotwire.ingest.foundation.postgres import connect
from slotwire.ingest.foundation.settings import DatabaseSettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor import examine
from tests.support.public_endpoint import invitee_body, make_hook, running_endpoint, settings_for
from tests.support.secured_servers import PASSWORD, SecuredPostgres, secured_postgres
from tests.support.versions import planted
from tests.support.writing import write_all

pytestmark = pytest.mark.drills

SECONDS = 30
ROLES = {"app": "LOGIN", "asleep": "NOLOGIN", "crowded": "LOGIN CONNECTION LIMIT 0"}


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredPostgres]:
    """A server that lets nobody in without TLS, with a database that only its owner may enter."""
    with secured_postgres() as running, asyncio.Runner() as runner:
        runner.run(_provision(running))
        yield running


async def _provision(secured: SecuredPostgres) -> None:
    async with asyncio.timeout(SECONDS):
        while (connection := await _connected(secured)) is None:
            pass
    for role, options in {**ROLES, "owner": "LOGIN CREATEROLE"}.items():
        await connection.execute(f"CREATE ROLE {role} {options} PASSWORD '{PASSWORD}'")
    await connection.execute("CREATE DATABASE closed")
    await connection.execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    await connection.execute("CREATE DATABASE slotwire OWNER owner")
    await connection.close()


async def _connected(secured: SecuredPostgres) -> asyncpg.Connection[asyncpg.Record] | None:
    try:
        return await asyncpg.connect(secured.url(), ssl="require")
    except (OSError, asyncpg.CannotConnectNowError):
        return None


@pytest.mark.parametrize(
    ("url", "reason", "message", "remedy"),
    [
        ("?sslmode=verify-full", "tls", "an authority that is not trusted here", "sslrootcert in SLOTWIRE"),
        ("?sslmode=verify-full&sslrootcert=STRANGER", "tls", "an authority that is not trusted here", "sslrootcert"),
        ("HOST?sslmode=verify-full&sslrootcert=AUTHORITY", "tls", "another host name", "host in"),
        ("?sslmode=disable", "28000", "lets nobody in from here without TLS", "sslmode=verify-full"),
        ("wrong:?sslmode=require", "28P01", "refused the user or the password", "user and the password"),
        ("nobody?sslmode=require", "28P01", "refused the user or the password", "user and the password"),
        ("asleep?sslmode=require", "28000", "no such role, or it may not log in", "LOGIN"),
        ("crowded?sslmode=require", "53300", "no connection left", "max_connections"),
        ("/nowhere?sslmode=require", "3D000", "no such database", "last slash"),
        ("/closed?sslmode=require", "42501", "may not connect to this database", "member"),
    ],
)
async def test_what_is_wrong_is_told_apart(
    url: str, reason: str, message: str, remedy: str, secured: SecuredPostgres
) -> None:
    """Each has a sentence of its own, what to change, and a reason for metrics; `doctor` says the same."""
    what, _, parameters = url.partition("?")
    parameters = parameters.replace("STRANGER", str(secured.stranger)).replace("AUTHORITY", str(secured.authority))
    role = what if what in {"nobody", *ROLES} else "app"
    address = secured.url(role, what[1:] or "slotwire", host="127.0.0.1" if what == "HOST" else "localhost")
    if not what.startswith("/"):
        address = secured.url(role, "slotwire", host="127.0.0.1" if what == "HOST" else "localhost")
    address = address.replace(PASSWORD, "wrong") if what == "wrong:" else address
    address = f"{address}?{parameters}"
    with pytest.raises(DatabaseUnavailable, match=message) as caught:
        await connect(address, DatabaseSettings(), application="test")
    assert caught.value.reason == reason
    assert remedy in caught.value.remedy
    assert PASSWORD not in caught.value.message + caught.value.remedy
    settings = Settings(database_url=SecretStr(address))
    found = {each.check: each async for each in examine(settings, SystemClock(), process="agents")}["postgres"]
    assert (found.state, found.message, found.remedy) == ("failed", caught.value.message, caught.value.remedy)


async def test_deliveries_are_acknowledged_and_written_over_tls(secured: SecuredPostgres) -> None:
    """With its authority named, `verify-full` migrates, accepts and writes on the system's version of Postgres."""
    parameters = f"?sslmode=verify-full&sslrootcert={secured.authority}"
    owner = await connect(secured.url("owner", "slotwire") + parameters, DatabaseSettings(), application="test")
    assert await owner.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await migrate(owner, role_prefix="slotwire", shards=1, now=SystemClock().now())
    for process in PROCESSES:
        await owner.execute(f"GRANT {role_of(process, 'slotwire')} TO app")
    address = secured.url("app", "slotwire") + parameters
    database = Database("slotwire", secured.url("owner", "slotwire") + parameters, address, {})
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        answers = [(await endpoint.deliver(hook, invitee_body())).status_code for _ in range(20)]
        assert await endpoint.health.problems() == {}
    await write_all(settings)
    written = await owner.fetchval("SELECT count(*) FROM slotwire.events")
    await owner.close()
    assert (answers, written) == ([200] * 20, 20)


async def test_a_rollout_takes_both_its_steps(secured: SecuredPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the system's version, too, indexes are built beside others, partition by partition, and dropped."""
    parameters = f"?sslmode=verify-full&sslrootcert={secured.authority}"
    owner = await connect(secured.url("owner", "slotwire") + parameters, DatabaseSettings(), application="test")
    await migrate(owner, role_prefix="slotwire", shards=1, now=SystemClock().now())
    ours = migrations.known_migrations()
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*ours, *planted()))
    indexes = (
        "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indexrelid::regclass::text ~ 'planted_[ei]'"
    )

    async def step(phase: migrations.Phase) -> dict[str, bool]:
        await migrate(owner, role_prefix="slotwire", shards=1, now=SystemClock().now(), phase=phase)
        return {row[0]: row[1] for row in await owner.fetch(indexes)}

    built = await step(migrations.Phase.PRE)
    dropped = await step(migrations.Phase.POST)
    await owner.close()
    assert all(built.values())
    assert set(built) - set(dropped) == {"slotwire.planted_identities"}
    assert set(dropped) == {"slotwire.planted_events", *(f"slotwire.planted_events_{day}" for day in range(8))}
