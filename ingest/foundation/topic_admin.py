"""The topics: made once by `slotwire migrate`, looked over by `slotwire doctor`.

Partitions of a keyed topic are fixed when it is made: with another number the keys would move to other
partitions, and the events of one booking would no longer come in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from slotwire.ingest.foundation.errors import BrokerUnavailable, ConfigurationError, TopicUnavailable
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    TopicDescription,
    connection_options,
    describe_topics,
    full_name,
    opened_client,
    topics_unavailable,
    translated,
    until_led,
)
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import TOPICS, Topic

MAX_MESSAGE_BYTES = 1_048_588
"""What a topic takes in one batch: Kafka's own default, written down so that a broker's other default does not
change it. The relay's `max_record_bytes` stays below it."""
CURSOR_SEGMENT_BYTES = 16 * 1024 * 1024
"""Segments of the compacted topic: the one being written is never compacted, so it is kept small."""
READY_SECONDS = 15.0
"""How long the broker may take to make topics."""
Severity = Literal["error", "warning"]
Problem = Literal[
    "missing",
    "forbidden",
    "unready",
    "partitions",
    "replicas",
    "min_insync_replicas",
    "retention",
    "max_message_bytes",
    "cleanup",
]
_NUMBERS: dict[str, Problem] = {
    "min.insync.replicas": "min_insync_replicas",
    "retention.ms": "retention",
    "max.message.bytes": "max_message_bytes",
}


@dataclass(frozen=True)
class TopicFinding:
    """Something about a topic that is not as it should be.

    Attributes:
        topic: the full name.
        problem: a short word.
        severity: `error`: events do not flow or promises do not hold; `warning`: it differs from the settings.
        message: what was found.
        remedy: what to do.
    """

    topic: str
    problem: Problem
    severity: Severity
    message: str
    remedy: str


def partitions_of(settings: KafkaSettings, topic: Topic) -> int:
    """Return how many partitions a topic is made with."""
    return 1 if topic.single_partition else settings.partitions


def wanted_configs(settings: KafkaSettings, topic: Topic) -> dict[str, str]:
    """Return the configuration a topic is made with, in Kafka's words."""
    common = {
        "min.insync.replicas": str(settings.min_insync_replicas),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "unclean.leader.election.enable": "false",
    }
    if topic.compacted:
        return {
            **common,
            "cleanup.policy": "compact",
            "segment.bytes": str(CURSOR_SEGMENT_BYTES),
            "min.cleanable.dirty.ratio": "0.1",
        }
    return {**common, "cleanup.policy": "delete", "retention.ms": str(settings.retention_hours * 3_600_000)}


async def ensure_topics(settings: KafkaSettings, topics: Sequence[Topic] = TOPICS) -> Sequence[str]:
    """Make the topics that are missing; change none that is there.

    Args:
        settings: the broker, the prefix, and what new topics are made with.
        topics: which ones; all of ours unless told otherwise.

    Returns:
        A line for each topic that was made.

    Raises:
        ConfigurationError: a topic has another number of partitions than the settings say, or the broker
            cannot make topics of these settings.
        TopicUnavailable: a topic may not be seen or made by this client.
        BrokerUnavailable: the broker does not answer.
    """
    async with opened_client(settings, client="migrate") as client:
        found = await describe_topics(client, [full_name(settings, topic) for topic in topics])
        missing = []
        for topic, description in zip(topics, found, strict=True):
            match description.state:
                case "missing":
                    missing.append(topic)
                case "forbidden":
                    raise topics_unavailable([description])
                case _:
                    _require_partitions(settings, topic, description)
        if missing:
            await _create(settings, missing)
            await until_led(client, [full_name(settings, topic) for topic in missing])
    return [_made(settings, topic) for topic in missing]


def _made(settings: KafkaSettings, topic: Topic) -> str:
    count = partitions_of(settings, topic)
    return f"made topic {full_name(settings, topic)}, {count} partition{'s' if count > 1 else ''}"


def _require_partitions(settings: KafkaSettings, topic: Topic, found: TopicDescription) -> None:
    wanted = partitions_of(settings, topic)
    if found.partitions == wanted:
        return
    raise ConfigurationError(
        f"topic {found.name} has {found.partitions} partitions, wanted are {wanted}: "
        "partitions are fixed when a topic is made, because another number moves the keys",
        remedy=(
            "The topic was not made by Slotwire. Name another prefix with SLOTWIRE_KAFKA__TOPIC_PREFIX."
            if topic.single_partition
            else f"Set SLOTWIRE_KAFKA__PARTITIONS={found.partitions}; for another number take new topics,\n"
            "  with another SLOTWIRE_KAFKA__TOPIC_PREFIX."
        ),
    )


async def _create(settings: KafkaSettings, topics: Iterable[Topic]) -> None:
    new = [
        NewTopic(
            full_name(settings, topic),
            partitions_of(settings, topic),
            settings.replication_factor,
            topic_configs=wanted_configs(settings, topic),
        )
        for topic in topics
    ]
    with translated():
        async with asyncio.timeout(READY_SECONDS), _admin(settings) as admin:
            answer = await admin.create_topics(new)
    for result in answer.topic_errors:
        _judge(settings, name=result[0], code=result[1], said=result[2] if len(result) > 2 else None)


def _judge(settings: KafkaSettings, *, name: str, code: int, said: str | None) -> None:
    """Turn the broker's answer about one new topic into words."""
    error = errors.for_code(code)
    if error in {errors.NoError, errors.TopicAlreadyExistsError}:  # another `migrate` was first
        return
    if error is errors.InvalidReplicationFactorError:
        raise ConfigurationError(
            f"the broker cannot keep {settings.replication_factor} copies of topic {name}",
            remedy="Set SLOTWIRE_KAFKA__REPLICATION_FACTOR (and SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS) to at most the\n"
            "  number of brokers; 1 and 1 for a broker that stands alone.",
        )
    if error in {errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError}:
        raise TopicUnavailable(
            f"topic {name} is missing and may not be made by this client",
            topics=(name,),
            remedy="Let whoever administers the broker make the topics, then run `slotwire doctor`.",
        )
    if error in {errors.PolicyViolationError, errors.InvalidConfigurationError, errors.InvalidPartitionsError}:
        raise ConfigurationError(
            f"the broker refuses to make topic {name}: {said or error.message.lower()}",
            remedy="Set SLOTWIRE_KAFKA__PARTITIONS, __REPLICATION_FACTOR and __RETENTION_HOURS to what it allows.",
        )
    raise BrokerUnavailable(f"topic {name} could not be made: {error.message.lower()}", reason="topic")


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000), **connection_options(settings, client="admin")
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def check_topics(settings: KafkaSettings, topics: Sequence[Topic] = TOPICS) -> tuple[TopicFinding, ...]:
    """Compare the topics with the settings, changing nothing.

    Returns:
        What is not as it should be; empty when all is well.

    Raises:
        ConfigurationError: no broker is named.
        BrokerUnavailable: the broker does not answer.
    """
    async with opened_client(settings, client="doctor") as client:
        found = await describe_topics(client, [full_name(settings, topic) for topic in topics])
    there = [(topic, item) for topic, item in zip(topics, found, strict=True) if item.state == "ready"]
    configs = await _read_configs(settings, [item.name for _, item in there]) if there else {}
    findings = [_absence(item) for item in found if item.state != "ready"]
    for topic, item in there:
        findings += _counts(settings, topic, item)
        findings += _config_findings(settings, topic, item.name, configs.get(item.name, {}))
    return tuple(findings)


def _absence(item: TopicDescription) -> TopicFinding:
    match item.state:
        case "forbidden":
            remedy = "Allow it to describe, read and write the topic."
            return TopicFinding(item.name, "forbidden", "error", "this client may not use the topic", remedy)
        case "unready":
            remedy = "Look at the state of the brokers."
            return TopicFinding(item.name, "unready", "error", "a partition has no leader", remedy)
        case _:
            return TopicFinding(item.name, "missing", "error", "the topic is missing", "Run `slotwire migrate`.")


def _counts(settings: KafkaSettings, topic: Topic, item: TopicDescription) -> list[TopicFinding]:
    findings = []
    wanted = partitions_of(settings, topic)
    if item.partitions != wanted:
        message = f"it has {item.partitions} partitions, the settings say {wanted}"
        remedy = f"Set SLOTWIRE_KAFKA__PARTITIONS={item.partitions}; never change the partitions of a keyed topic."
        severity: Severity = "error" if topic.single_partition else "warning"
        findings.append(TopicFinding(item.name, "partitions", severity, message, remedy))
    if item.replicas < settings.replication_factor:
        message = f"a partition has {item.replicas} copies, the settings say {settings.replication_factor}"
        remedy = "Reassign its partitions to more brokers, or set SLOTWIRE_KAFKA__REPLICATION_FACTOR."
        findings.append(TopicFinding(item.name, "replicas", "warning", message, remedy))
    return findings


async def _read_configs(settings: KafkaSettings, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read the configuration of topics; a topic whose configuration may not be read is left out."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    with translated():
        async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS), _admin(settings) as admin:
            answers = await admin.describe_configs(resources)
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
        if resource[0] == 0
    }


def _config_findings(settings: KafkaSettings, topic: Topic, name: str, has: dict[str, str]) -> list[TopicFinding]:
    """Say where a topic's configuration promises less than the settings."""
    findings = []
    wanted = wanted_configs(settings, topic)
    policy = has.get("cleanup.policy", wanted["cleanup.policy"])
    if policy != wanted["cleanup.policy"]:
        why = "an expired cursor stops the relay" if topic.compacted else "compaction drops events of a key"
        remedy = f"Set it to {wanted['cleanup.policy']}: {why}."
        findings.append(TopicFinding(name, "cleanup", "error", f"cleanup.policy is {policy}", remedy))
    for key, problem in _NUMBERS.items():
        if key not in has or key not in wanted:
            continue
        value, want = int(has[key]), int(wanted[key])
        if value >= want or (key == "retention.ms" and value == -1):
            continue
        severity: Severity = "error" if key == "min.insync.replicas" else "warning"
        remedy = f"Raise it, for example with kafka-configs --alter --topic {name}."
        findings.append(TopicFinding(name, problem, severity, f"{key} is {value}, the settings say {want}", remedy))
    return findings
