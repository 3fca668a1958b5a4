"""Topics on a real broker: made once, never repartitioned, looked over, looked up without being made."""

from __future__ import annotations

import asyncio

import pytest

from slotwire.ingest.errors import BrokerUnavailable, ConfigurationError, TopicUnavailable
from slotwire.ingest.foundation.kafka import describe_topics, full_name, opened_client, require_topics
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.topic_admin import TopicFinding, check_topics, ensure_topics
from slotwire.ingest.local.topics import make_topics
from slotwire.schemas.topics import INVITEE, RELAY_CURSOR, ROUTING_FORM, TOPICS, Topic
from tests.support.children import free_port
from tests.support.relay_setup import make_topic, relay_settings


@pytest.fixture
def kafka(kafka_bootstrap: str, topic_prefix: str) -> KafkaSettings:
    """The run's broker, with a prefix of the test's own."""
    return KafkaSettings(
        bootstrap_servers=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=4,
        replication_factor=1,
        min_insync_replicas=1,
    )


async def test_topics_are_made_once(kafka: KafkaSettings) -> None:
    """The first call makes every topic and says so, the second none; then nothing is to be found fault with."""
    made = await ensure_topics(kafka)
    assert [line.split()[2].rstrip(",") for line in made] == [full_name(kafka, topic) for topic in TOPICS]
    assert await ensure_topics(kafka) == []
    assert await check_topics(kafka) == ()


async def test_topics_of_the_local_stack_wait_for_their_broker(kafka: KafkaSettings) -> None:
    """A broker that does not answer yet is asked again, and each failed try is told; past its time that is final."""
    away = kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{(port := free_port())}"})
    told: list[str] = []
    with pytest.raises(BrokerUnavailable):
        await make_topics(away, told.append, seconds=0)
    assert told == []
    failed = asyncio.Event()
    making = asyncio.create_task(make_topics(away, lambda _: failed.set(), again=0.05))
    await failed.wait()
    host, _, broker = kafka.bootstrap_servers.partition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection(host, int(broker))

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
            target.close()

        await asyncio.gather(copy(reader, to_broker), copy(from_broker, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        await making
    assert await check_topics(kafka) == ()


async def test_each_topic_has_its_partitions(kafka: KafkaSettings) -> None:
    """Keyed topics have as many as the settings say, the cursor's topic one."""
    await ensure_topics(kafka)
    async with opened_client(kafka, client="test") as client:
        found = await describe_topics(client, [full_name(kafka, topic) for topic in (INVITEE, RELAY_CURSOR)])
    assert [topic.partitions for topic in found] == [4, 1]


async def test_partitions_of_a_keyed_topic_are_refused_another_number(kafka: KafkaSettings) -> None:
    """Another number would move the keys: nothing is changed, and the message says what to set."""
    await ensure_topics(kafka)
    with pytest.raises(ConfigurationError, match="has 4 partitions, the settings say 5") as refused:
        await ensure_topics(kafka.model_copy(update={"partitions": 5}))
    assert "SLOTWIRE_KAFKA__PARTITIONS=4" in refused.value.remedy
    assert await check_topics(kafka) == ()


async def test_too_many_replicas_are_refused(kafka: KafkaSettings) -> None:
    """One broker cannot hold three copies; the message names the settings."""
    with pytest.raises(ConfigurationError, match="cannot hold 3 copies") as refused:
        await ensure_topics(kafka.model_copy(update={"replication_factor": 3}))
    assert "SLOTWIRE_KAFKA__REPLICATION_FACTOR" in refused.value.remedy


async def test_an_unreachable_broker_is_reported(kafka: KafkaSettings) -> None:
    """Nothing listens there: one line and what to look at, at once."""
    with pytest.raises(BrokerUnavailable, match="out of reach") as away:
        await ensure_topics(kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}))
    assert "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS" in away.value.remedy


async def test_a_missing_address_is_reported(kafka: KafkaSettings) -> None:
    """Without an address the setting is named."""
    with pytest.raises(ConfigurationError, match="SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS is not set"):
        await check_topics(kafka.model_copy(update={"bootstrap_servers": ""}))


def _short(findings: tuple[TopicFinding, ...]) -> set[tuple[str, str, str]]:
    return {(finding.topic, finding.problem, finding.severity) for finding in findings}


async def test_missing_topics_are_found(kafka: KafkaSettings) -> None:
    """Before `migrate`, doctor hears of each topic that is missing."""
    findings = await check_topics(kafka)
    assert _short(findings) == {(full_name(kafka, topic), "missing", "error") for topic in TOPICS}
    assert {finding.remedy for finding in findings} == {"Run `slotwire migrate`."}


async def test_topics_that_differ_from_the_settings_are_found(
    kafka_bootstrap: str, topic_prefix: str, kafka: KafkaSettings
) -> None:
    """Too few copies, a short retention, a small limit, the wrong cleanup: each is named with what to do."""
    made = relay_settings("", kafka_bootstrap, topic_prefix)
    await make_topic(made, INVITEE, **{"retention.ms": "60000", "cleanup.policy": "compact"})
    await make_topic(made, ROUTING_FORM, **{"max.message.bytes": "1000"})
    await make_topic(made, RELAY_CURSOR, **{"cleanup.policy": "delete"})
    wanted = made.kafka.model_copy(update={"min_insync_replicas": 2, "replication_factor": 2, "partitions": 5})
    found = _short(await check_topics(wanted))
    made_here = (INVITEE, ROUTING_FORM, RELAY_CURSOR)
    invitee, routing, cursor = (full_name(kafka, topic) for topic in made_here)
    assert found == {
        *((name, "min_insync_replicas", "error") for name in (invitee, routing, cursor)),
        *((name, "replicas", "warning") for name in (invitee, routing, cursor)),
        *((name, "partitions", "warning") for name in (invitee, routing)),
        (invitee, "retention", "warning"),
        (invitee, "cleanup", "error"),
        (routing, "max_message_bytes", "warning"),
        (cursor, "cleanup", "error"),
        *((full_name(kafka, topic), "missing", "error") for topic in TOPICS if topic not in made_here),
    }


async def test_topics_that_promise_more_than_the_settings_pass(kafka_bootstrap: str, topic_prefix: str) -> None:
    """A longer or endless retention and a higher limit promise more, and are left alone."""
    made = relay_settings("", kafka_bootstrap, topic_prefix)
    await make_topic(made, INVITEE, **{"retention.ms": "-1", "max.message.bytes": "2000000"})
    assert await check_topics(made.kafka, [INVITEE]) == ()


async def test_a_lookup_makes_no_topic(kafka: KafkaSettings) -> None:
    """Asking for a topic names what is missing and leaves it missing."""
    name = full_name(kafka, Topic("nowhere", ""))
    async with opened_client(kafka, client="test") as client:
        for _ in range(2):
            with pytest.raises(TopicUnavailable, match="nowhere is missing") as missing:
                await require_topics(client, [name])
            assert missing.value.topics == (name,)
            assert "slotwire migrate" in missing.value.remedy
