"""`slotwire doctor --process` needs what that process has and no more; without it, everything is checked."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import KafkaSettings, Settings
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor import examine
from slotwire.ingest.operate.findings import CHECKS, Finding, Process
from tests.support.command import environment, slotwire
from tests.support.public_endpoint import make_hook, random_key, settings_for

POSTGRES = ["tls", "postgres", "durability", "clock", "schema", "rights"]
PROCESSES: tuple[Process, ...] = ("serve", "relay", "control", "agents", "mcp")
EXPECTED: dict[Process, list[str]] = {
    "serve": ["settings", "vault keys", "hook keys", "open files", *POSTGRES, "sealed keys"],
    "relay": ["settings", *POSTGRES, "unwritten", "kafka", "topics", "cursor"],
    "control": [
        *["settings", "vault keys", "hook keys", "public url", *POSTGRES, "functions", "roles", "logins"],
        *["unwritten", "ranges", "retention"],
        *["sealed keys", "vault use", "oauth app", "server connections", "connections", "deliveries"],
        *["rate limits", "organizations", "holes", "erasures", "actions", "changes", "dead letters", "runs"],
        *["agent tables", "agent settings", "availability", "schedules", "mcp subscriptions"],
    ],
    "agents": ["settings", *POSTGRES, "kafka", "topics"],
    "mcp": ["settings", "mcp", *POSTGRES],
}


@pytest.fixture
async def kafka(kafka_bootstrap: str, topic_prefix: str) -> dict[str, str]:
    """The environment that a process which speaks to Kafka has; the topics are made."""
    settings = KafkaSettings(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=2,
        replication_factor=1,
        min_insync_replicas=1,
    )
    await ensure_topics(settings)
    return {
        "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap,
        "SLOTWIRE_KAFKA__TOPIC_PREFIX": topic_prefix,
        "SLOTWIRE_KAFKA__PARTITIONS": "2",
        "SLOTWIRE_KAFKA__REPLICATION_FACTOR": "1",
        "SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS": "1",
    }


def own(process: Process, settings: Settings, database: Database, kafka: dict[str, str]) -> dict[str, str]:
    """Return what the manifests give a process: its own login, and the secrets that it uses."""
    everything = environment(settings)
    names = {"serve": ("HTTP__HOOK_KEYS", "VAULT__KEYS"), "control": ("HTTP__HOOK_KEYS", "VAULT__KEYS", "PUBLIC_URL")}
    given = {f"SLOTWIRE_{name}": everything[f"SLOTWIRE_{name}"] for name in names.get(process, ())}
    if process == "mcp":
        given["SLOTWIRE_MCP__TOKEN_KEYS"] = f"k1:{random_key()}"
    more = kafka if process in {"relay", "agents"} else {"SLOTWIRE_CALENDLY__API_URL": "http://127.0.0.1:9"}
    return {**given, **more, "SLOTWIRE_DATABASE_URL": database.url_of[process]}


@pytest.mark.parametrize("process", PROCESSES)
async def test_a_process_is_well_with_what_it_has(process: Process, database: Database, kafka: dict[str, str]) -> None:
    """With its own role, settings and secrets, and none of the others', all is well and the command exits with 0."""
    settings = settings_for(database)
    if process == "serve":
        await make_hook(settings, database)
    found = await slotwire("doctor", "--process", process, env=own(process, settings, database, kafka))
    assert found.code == 0, found.stdout
    assert "FAILED" not in found.stdout
    assert [line[8:].partition(":")[0] for line in found.stdout.splitlines()] == EXPECTED[process]
    assert {line[:8].strip() for line in found.stdout.splitlines()} == {"ok"}


def test_every_process_has_its_checks() -> None:
    """The processes that the command offers are those that have checks."""
    assert set(CHECKS) == set(PROCESSES)


async def findings(settings: Settings, process: Process | None = None) -> dict[str, Finding]:
    """Examine, and return the findings by their checks."""
    return {found.check: found async for found in examine(settings, SystemClock(), process=process)}


async def test_the_login_of_another_process_fails(database: Database) -> None:
    """With the login of `agents`, `serve` could accept nothing: a failure that names the role and the grant."""
    settings = settings_for(database).model_copy(update={"database_url": SecretStr(database.url_of["agents"])})
    rights = (await findings(settings, "serve"))["rights"]
    assert (rights.state, rights.message) == (
        "failed",
        "the database role slotwire_agents: has not the rights of slotwire_serve",
    )
    assert 'GRANT "slotwire_serve" TO "slotwire_agents"' in rights.remedy


async def test_a_cursor_that_does_not_fit_is_told(
    database: Database, kafka: dict[str, str], kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A log that remembers more than Kafka fails with the choices that an operator has; before that it fits."""
    settings = settings_for(database).model_copy(
        update={
            "kafka": KafkaSettings(
                bootstrap_servers=kafka_bootstrap,
                topic_prefix=topic_prefix,
                partitions=2,
                replication_factor=1,
                min_insync_replicas=1,
            )
        }
    )
    before = (await findings(settings, "relay"))["cursor"]
    assert (before.state, before.message) == ("ok", "fits the log, shard 0: published up to 0")
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute(
            "INSERT INTO slotwire.relay_mirror (shard, log_id, position, event_id, published_at)"
            " SELECT 0, log_id, 31, $1, '2026-01-01' FROM slotwire.log",
            uuid4(),
        )
    finally:
        await owner.close()
    for process in ("relay", None):
        after = (await findings(settings, process))["cursor"]
        assert after.state == "failed"
        assert "it is gone from Kafka, and Postgres remembers it at 31" in after.message
        assert "slotwire relay --cursor-from mirror" in after.remedy


async def test_what_goes_over_a_network_in_the_clear_is_a_warning() -> None:
    """Allowed or not, each host that is spoken to without TLS is named, and an encryption that trusts anybody too."""
    clear = Settings(
        database_url=SecretStr("postgresql://u:p@127.0.0.1,db.example.com/d"),
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9092,kafka.example.com:9092"),
    )
    found = (await findings(clear))["tls"]
    assert (found.state, found.message) == (
        "warning",
        (
            "db.example.com:5432 of Postgres is spoken to without TLS; "
            "kafka.example.com:9092 of Kafka is spoken to without TLS"
        ),
    )
    trusting = Settings(database_url=SecretStr("postgresql://u:p@db.example.com/d?sslmode=require"))
    assert "believes whoever answers" in (await findings(trusting, "serve"))["tls"].message
