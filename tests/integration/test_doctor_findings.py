"""The doctor finds what is wrong and says what to do, on real servers that are wrong on purpose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from slotwire.ingest.foundation import migrations
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.settings import (
    CalendlySettings,
    DatabaseSettings,
    HttpSettings,
    KafkaSettings,
    Settings,
    VaultSettings,
)
from slotwire.ingest.foundation.topic_admin import ensure_topics
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from slotwire.ingest.operate.doctor import SKEW_FAILURE, SKEW_WARNING, examine, verdict
from slotwire.ingest.operate.findings import Finding
from slotwire.schemas.ids import last_segment
from slotwire.schemas.topics import TOPICS
from tests.support.command import environment, slotwire
from tests.support.connections_setup import write_connection
from tests.support.public_endpoint import make_hook, random_key, settings_for


def settings_of(database: Database, kafka_bootstrap: str, topic_prefix: str) -> Settings:
    """Make settings that fit a broker of one node."""
    kafka = KafkaSettings(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=2,
        replication_factor=1,
        min_insync_replicas=1,
    )
    return settings_for(database).model_copy(
        update={"kafka": kafka, "calendly": CalendlySettings(api_url="http://127.0.0.1:9")}
    )


async def findings(settings: Settings) -> dict[str, Finding]:
    """Examine, and return the findings by what was looked at."""
    return {found.check: found async for found in examine(settings, SystemClock())}


async def test_all_is_well(database: Database, kafka_bootstrap: str, topic_prefix: str) -> None:
    """On a migrated database and with topics made, everything is ok and nothing is to be done."""
    settings = settings_of(database, kafka_bootstrap, topic_prefix)
    await ensure_topics(settings.kafka)
    hook = await make_hook(settings, database)
    await write_connection(settings, database, last_segment(hook.organization))
    found = await findings(settings)
    assert {item.state for item in found.values()} == {"ok"}, found
    assert list(found) == [
        "vault keys",
        "hook keys",
        "public url",
        "open files",
        "tls",
        "postgres",
        "durability",
        "clock",
        "schema",
        "rights",
        "functions",
        "roles",
        "logins",
        "unwritten",
        "ranges",
        "retention",
        "sealed keys",
        "vault use",
        "oauth app",
        "server connections",
        "connections",
        "deliveries",
        "rate limits",
        "organizations",
        "holes",
        "erasures",
        "actions",
        "changes",
        "dead letters",
        "runs",
        "agent tables",
        "agent settings",
        "availability",
        "schedules",
        "mcp subscriptions",
        "kafka",
        "topics",
        "cursor",
    ]
    assert not [item for item in found.values() if item.remedy]
    assert "fsync on, synchronous_commit on" in found["durability"].message
    assert found["sealed keys"].message.startswith("1 signing keys")
    assert found["vault use"].message == "secrets by the key that encrypted them: 'test': 2"
    assert found["connections"].message == "1 active"
    assert found["organizations"].message == "1 active, 0 wanted subscriptions"
    assert verdict(found.values()) == 0


async def test_without_anything_each_failure_says_what_to_do() -> None:
    """Empty settings fail in every part, each with a remedy, and none ends the others."""
    found = await findings(Settings())
    failed = {check for check, item in found.items() if item.state == "failed"}
    assert failed == {"vault keys", "hook keys", "public url", "postgres", "kafka"}
    assert all(found[check].remedy for check in failed)
    assert verdict(found.values()) == 1


async def test_missing_topics_are_named(database: Database, kafka_bootstrap: str, topic_prefix: str) -> None:
    """Each missing topic is a failure that names the command that makes it."""
    found = await findings(settings_of(database, kafka_bootstrap, topic_prefix))
    missing = {check: item for check, item in found.items() if check.startswith("topic ")}
    assert set(missing) == {f"topic {topic_prefix}{topic.name}" for topic in TOPICS}
    assert {item.remedy for item in missing.values()} == {"Run `slotwire migrate`."}
    assert found["kafka"].state == "ok"
    assert verdict(found.values()) == 1


async def test_other_partitions_are_a_warning(database: Database, kafka_bootstrap: str, topic_prefix: str) -> None:
    """Topics made with other partitions than the settings say are told, with the setting to correct."""
    settings = settings_of(database, kafka_bootstrap, topic_prefix)
    await ensure_topics(settings.kafka)
    more = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 3})})
    found = await findings(more)
    told = [item for check, item in found.items() if check.startswith("topic ")]
    assert told
    assert all("SLOTWIRE_KAFKA__PARTITIONS=2" in item.remedy for item in told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace(url.rpartition(":")[2].partition("/")[0], "9"), "out of reach"),
        (lambda url: url.replace("slotwire_app:", "slotwire_app:wrong"), "refused the user or the password"),
        (lambda url: url + "_not", "no such database"),
        (lambda _: "mysql://somewhere", "cannot be read"),
        (lambda _: "", "not set"),
    ],
    ids=["closed", "password", "database", "form", "empty"],
)
async def test_a_database_out_of_reach_is_told_apart(database: Database, change: object, words: str) -> None:
    """What stands between us and Postgres is said in words, without the address or the password."""
    assert callable(change)
    url = change(database.runtime_url)
    settings = settings_for(database).model_copy(update={"database_url": SecretStr(url)})
    found = (await findings(settings))["postgres"]
    assert found.state == "failed"
    assert words in found.message
    assert found.remedy
    password = database.runtime_url.split(":")[2].partition("@")[0]
    assert password not in found.model_dump_json()


async def test_a_server_that_can_lose_commits_fails(database: Database, stack: Stack) -> None:
    """With synchronous_commit off for the role there is no promise; that fails, or warns where it is allowed."""
    role = "slotwire_app"
    superuser = await asyncpg.connect(stack.superuser_url)
    try:
        await superuser.execute(f"ALTER ROLE {role} IN DATABASE {database.name} SET synchronous_commit = off")
        settings = settings_for(database)
        strict = (await findings(settings))["durability"]
        loose = settings.model_copy(update={"database": DatabaseSettings(durable=False)})
        lax = (await findings(loose))["durability"]
    finally:
        await superuser.close()
    assert (strict.state, lax.state) == ("failed", "warning")
    assert "can be lost" in strict.message
    assert "synchronous_commit=on" in strict.remedy


async def test_a_schema_that_is_behind_fails(database: Database) -> None:
    """A missing migration is a failure that names the command, and rights are not asked for then."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute("DELETE FROM slotwire.migrations")
    finally:
        await owner.close()
    found = await findings(settings_for(database))
    assert (found["schema"].state, found["schema"].remedy) == ("failed", "Run `slotwire migrate --pre`.")


async def test_a_rollout_that_is_not_finished_is_a_warning(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the second step of a rollout waits, doctor names it, and fails nobody."""
    ours = migrations.known_migrations()
    monkeypatch.setattr(migrations, "known_migrations", lambda: (*ours, migrations.Migration("9999_post_x", "")))
    found = await findings(settings_for(database))
    assert (found["schema"].state, "9999_post_x waits" in found["schema"].message) == ("warning", True)
    assert "migrate --post" in found["schema"].remedy
    assert "rights" not in found


async def test_a_role_that_may_too_much_is_a_warning(database: Database) -> None:
    """Processes that run as the owner could change the log: told, with what to do."""
    settings = settings_for(database).model_copy(update={"database_url": SecretStr(database.owner_url)})
    found = (await findings(settings))["rights"]
    assert found.state == "warning"
    assert "could change the log" in found.message


async def test_a_role_that_may_too_little_fails(database: Database) -> None:
    """A right that is missing is a failure with the grant that mends it."""
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute("REVOKE EXECUTE ON FUNCTION slotwire.append FROM slotwire_relay")
    finally:
        await owner.close()
    found = (await findings(settings_for(database)))["rights"]
    assert found.state == "failed"
    assert "slotwire_relay" in found.message
    assert "slotwire migrate" in found.remedy


async def test_each_process_has_the_rights_of_its_own_role(database: Database) -> None:
    """The login of each process is told by its role; the owner's own, taken from all of them, has none: a failure."""
    for process in ("serve", "relay", "agents", "mcp", "control"):
        settings = settings_for(database).model_copy(update={"database_url": SecretStr(database.url_of[process])})
        found = (await findings(settings))["rights"]
        assert (found.state, found.message) == (
            "ok",
            f"the role slotwire_{process} has the rights of slotwire_{process}, and cannot change the log",
        )


async def test_a_vault_key_that_is_gone_fails(database: Database) -> None:
    """Signing keys that do not open would turn genuine deliveries away: a failure that names the key."""
    settings = settings_for(database)
    await make_hook(settings, database)
    replaced = VaultSettings(keys=(SecretStr(f"another:{random_key()}"),))
    found = (await findings(settings.model_copy(update={"vault": replaced})))["sealed keys"]
    assert found.state == "failed"
    assert "'test'" in found.message
    assert "SLOTWIRE_VAULT__KEYS" in found.remedy


async def test_keys_still_in_use_are_counted(database: Database) -> None:
    """A key that is missing is a failure, an unfinished rotation a warning, and a key nothing hangs on is told."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    await write_connection(settings, database, last_segment(hook.organization))
    old, new = settings.vault.keys[0], SecretStr(f"new:{random_key()}")

    async def with_keys(*keys: SecretStr) -> Finding:
        return (await findings(settings.model_copy(update={"vault": VaultSettings(keys=keys)})))["vault use"]

    gone = await with_keys(new)
    assert (gone.state, gone.message.partition(": ")[2]) == ("failed", "'new': 0, 'test': 2")
    assert "'test'" in gone.remedy
    unfinished = await with_keys(new, old)
    assert unfinished.state == "warning"
    assert "slotwire keys vault rotate" in unfinished.remedy
    spare = await with_keys(old, new)
    assert (spare.state, spare.remedy) == ("ok", "")
    assert "'new' may be removed" in spare.message


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("revoked", "refused", "1 revoked; nothing can be done at Calendly for: "),
        ("needs_reauth", "another_user", "1 needs_reauth; nothing can be done at Calendly for: "),
        ("expiring", "expires_soon", "1 expiring; expiring means within 14 days"),
        (None, None, "none yet; nothing can be done at Calendly for: "),
    ],
)
async def test_connections_that_need_a_person_are_named(
    state: str | None, reason: str | None, words: str, database: Database
) -> None:
    """An organization without a connection that can act is named, and a credential near its end is told."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    org = last_segment(hook.organization)
    if state is not None:
        await write_connection(settings, database, org, state=state, reason=reason)
    found = (await findings(settings))["connections"]
    assert found.state == "warning"
    assert found.message.startswith(words)
    assert (org in found.message) == (state != "expiring")
    assert "slotwire connections add --token-file FILE" in found.remedy


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8080"])
async def test_an_address_calendly_cannot_reach_fails(url: str) -> None:
    """Without a public https address nothing can be subscribed at Calendly: a failure that names the setting."""
    settings = Settings(public_url=url, http=HttpSettings(hook_keys=(SecretStr(random_key()),)))
    found = (await findings(settings))["public url"]
    assert found.state == "failed"
    assert "SLOTWIRE_PUBLIC_URL" in found.message + found.remedy


@pytest.mark.parametrize(
    ("off", "state"),
    [
        (timedelta(0), "ok"),
        (SKEW_WARNING * 2, "warning"),
        (-SKEW_WARNING * 2, "warning"),
        (SKEW_FAILURE * 2, "failed"),
        (-SKEW_FAILURE * 2, "failed"),
    ],
)
async def test_clocks_that_differ_are_told(off: timedelta, state: str, database: Database) -> None:
    """A clock that is off by seconds is a warning, by minutes a failure, in either direction."""
    clock = ManualClock(datetime.now(UTC) + off)
    found = {item.check: item async for item in examine(settings_for(database), clock)}
    assert found["clock"].state == state
    assert bool(found["clock"].remedy) is (state != "ok")


async def test_the_command_prints_and_exits_as_it_found(
    database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """`slotwire doctor` exits 0 when all is well and 1 when something failed; `--json` is one object a line."""
    settings = settings_of(database, kafka_bootstrap, topic_prefix)
    env = environment(
        settings,
        SLOTWIRE_CALENDLY__API_URL="http://127.0.0.1:9",
        SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap,
        SLOTWIRE_KAFKA__TOPIC_PREFIX=topic_prefix,
        SLOTWIRE_KAFKA__PARTITIONS="2",
        SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
        SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
    )
    missing = await slotwire("doctor", "--json", env=env)
    assert missing.code == 1
    told = [Finding.model_validate_json(line) for line in missing.stdout.splitlines()]
    assert [item.check for item in told if item.state == "failed"] == [
        f"topic {topic_prefix}{topic.name}" for topic in TOPICS
    ]
    await ensure_topics(settings.kafka)
    well = await slotwire("doctor", env=env)
    assert (well.code, well.stderr) == (0, "")
    assert all(line.startswith("ok ") for line in well.stdout.splitlines())
    unknown = await slotwire("doctor", env={**env, "SLOTWIRE_VAULT__KEY": "x"})
    assert unknown.code == 1
    assert "Did you mean SLOTWIRE_VAULT__KEYS?" in unknown.stdout
