"""`slotwire relay` as a user runs it: what it refuses, and in which words."""

from __future__ import annotations

import pytest

from slotwire.ingest.local.databases import Database
from tests.support.children import environment, process
from tests.support.command import slotwire
from tests.support.relay_setup import LoggedEvent, committed_records, ids, relay_settings, relay_setup


def _environment(url: str, bootstrap: str, prefix: str) -> dict[str, str]:
    return environment(
        relay_settings(url, bootstrap, prefix),
        SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=bootstrap,
        SLOTWIRE_KAFKA__TOPIC_PREFIX=prefix,
        SLOTWIRE_KAFKA__PARTITIONS="3",
        SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
        SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
        SLOTWIRE_HEALTH__PORT="0",
    )


@pytest.mark.parametrize("place", ["elsewhere", "-1", "1.5", "", "\u0663", "9" * 19])
async def test_an_invalid_position_is_refused(place: str) -> None:
    """A wrong --cursor-from is a usage error that says what is right; nothing is connected to."""
    ran = await slotwire("relay", f"--cursor-from={place}", env=_environment("postgresql://x@127.0.0.1:1/x", "a:1", ""))
    assert ran.code == 2
    assert "mirror, beginning or a position" in " ".join(ran.stderr.replace("│", " ").split())
    assert "Traceback" not in ran.stderr


async def test_a_missing_broker_setting_is_reported(database: Database, topic_prefix: str) -> None:
    """No address of Kafka: one line that names the setting, exit 1."""
    ran = await slotwire("relay", env=_environment(database.runtime_url, "", topic_prefix))
    assert ran.code == 1
    assert "slotwire: SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS is not set" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_a_missing_database_setting_is_reported(kafka_bootstrap: str, topic_prefix: str) -> None:
    """No address of Postgres: one line that names the setting, exit 1."""
    ran = await slotwire("relay", env=_environment("", kafka_bootstrap, topic_prefix))
    assert ran.code == 1
    assert "slotwire: SLOTWIRE_DATABASE_URL is not set" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_it_publishes_says_that_it_is_ready_and_stops_clean(
    database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Started as a process it publishes what waits, answers on its health port, and a signal ends it with 0."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as setup:
        event = LoggedEvent()
        await setup.append(event)
        async with process("relay", env=_environment(database.runtime_url, kafka_bootstrap, topic_prefix)) as relay:
            await relay.until_ready()
            assert ids(await committed_records(setup.settings, 1)) == [str(event.id)]
        assert relay.child.returncode == 0
