"""The topics: created by `slotwire migrate`, checked by `slotwire doctor`.

The number of partitions of a keyed topic is fixed when it is created: with another number, keys would move to other
partitions, and the events of one booking would no longer be in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from slotwire.ingest.foundation.errors import BrokerUnavailable, ConfigurationError, TopicUnavailable
from slotwire.ingest.foundation.kafka import (
    REQUEST_TIMEOUT_SECONDS,
    TopicDescription,
    TopicState,
    describe_topics,
    full_name,
    opened_client,
    topics_unavailable,
    translated,
    until_led,
)
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.topics import TOPICS, Topic

MAX_MESSAGE_BYTES = 1_048_588
"""The largest batch a topic accepts: Kafka's own default, set explicitly so that a broker with another default does
not change it. The relay's `max_record_bytes` is below it."""
CURSOR_SEGMENT_BYTES = 16 * 1024 * 1024
"""Segment size of the compacted topic; small, because the segment being written is never compacted."""
READY_SECONDS = 60.0
"""How long the broker may take to create topics."""


class Severity(StrEnum):
    """How bad a difference is."""

    ERROR = "error"
    """Events are not published, or a guarantee does not hold."""
    WARNING = "warning"
    """Any other difference."""


class TopicProblem(StrEnum):
    """The kinds of differences between a topic and the settings."""

    MISSING = "missing"
    FORBIDDEN = "forbidden"
    UNREADY = "unready"
    PARTITIONS = "partitions"
    REPLICAS = "replicas"
    MIN_INSYNC_REPLICAS = "min_insync_replicas"
    RETENTION = "retention"
    MAX_MESSAGE_BYTES = "max_message_bytes"
    CLEANUP = "cleanup"


_NUMBERS = {
    "min.insync.replicas": TopicProblem.MIN_INSYNC_REPLICAS,
    "retention.ms": TopicProblem.RETENTION,
    "max.message.bytes": TopicProblem.MAX_MESSAGE_BYTES,
}


@dataclass(frozen=True)
class TopicFinding:
    """A difference between a topic and the settings.

    Attributes:
        topic: the full name.
        problem: its kind.
        severity: how bad it is.
        message: what was found.
        remedy: what to do.
    """

    topic: str
    problem: TopicProblem
    severity: Severity
    message: str
    remedy: str


def partitions_of(settings: KafkaSettings, topic: Topic) -> int:
    """Return how many partitions a topic is created with."""
    return 1 if topic.single_partition else settings.partitions


def wanted_configs(settings: KafkaSettings, topic: Topic) -> dict[str, str]:
    """Return the configuration a topic is created with, by Kafka's names."""
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
    """Create the missing topics; existing ones are not changed.

    Args:
        settings: the broker, the prefix, and the configuration of new topics.
        topics: the topics; by default all of Slotwire's.

    Returns:
        One line for each created topic.

    Raises:
        ConfigurationError: a topic's number of partitions differs from the settings, or the broker cannot create
            topics with these settings.
        TopicUnavailable: this client may not see or create a topic.
        BrokerUnavailable: the broker does not answer.
    """
    async with opened_client(settings, client="migrate") as client:
        found = await describe_topics(client, [full_name(settings, topic) for topic in topics])
        missing = []
        for topic, description in zip(topics, found, strict=True):
            match description.state:
                case TopicState.MISSING:
                    missing.append(topic)
                case TopicState.FORBIDDEN:
                    raise topics_unavailable([description])
                case _:
                    _require_partitions(settings, topic, description)
        if missing:
            await _create(settings, missing)
            await until_led(client, [full_name(settings, topic) for topic in missing])
    return [_made(settings, topic) for topic in missing]


def _made(settings: KafkaSettings, topic: Topic) -> str:
    count = partitions_of(settings, topic)
    return f"created topic {full_name(settings, topic)}, {count} partition{'s' if count > 1 else ''}"


def _require_partitions(settings: KafkaSettings, topic: Topic, found: TopicDescription) -> None:
    wanted = partitions_of(settings, topic)
    if found.partitions == wanted:
        return
    raise ConfigurationError(
        f"topic {found.name} has {found.partitions} partitions, the settings say {wanted}: "
        "the number is fixed when a topic is created, because another one moves keys to other partitions",
        remedy=(
            "Slotwire did not create this topic. Choose another prefix with SLOTWIRE_KAFKA__TOPIC_PREFIX."
            if topic.single_partition
            else f"Set SLOTWIRE_KAFKA__PARTITIONS={found.partitions}. For another number, create new topics\n"
            "  under another SLOTWIRE_KAFKA__TOPIC_PREFIX."
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
        _judge(settings, name=result[0], code=result[1], message=result[2] if len(result) > 2 else None)


def _judge(settings: KafkaSettings, *, name: str, code: int, message: str | None) -> None:
    """Raise the error for the broker's answer about one new topic, if it is one."""
    error = errors.for_code(code)
    if error in {errors.NoError, errors.TopicAlreadyExistsError}:  # another `migrate` was first
        return
    if error is errors.InvalidReplicationFactorError:
        raise ConfigurationError(
            f"the broker cannot hold {settings.replication_factor} copies of topic {name}",
            remedy="Set SLOTWIRE_KAFKA__REPLICATION_FACTOR (and SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS) to at most the\n"
            "  number of brokers; 1 and 1 for a single broker.",
        )
    if error in {errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError}:
        raise TopicUnavailable(
            f"topic {name} is missing, and this client may not create it",
            topics=(name,),
            remedy="Ask the broker's administrator to create the topics, then run `slotwire doctor`.",
        )
    if error in {errors.PolicyViolationError, errors.InvalidConfigurationError, errors.InvalidPartitionsError}:
        raise ConfigurationError(
            f"the broker refuses to create topic {name}: {message or error.message.lower()}",
            remedy="Set SLOTWIRE_KAFKA__PARTITIONS, __REPLICATION_FACTOR and __RETENTION_HOURS to values it allows.",
        )
    raise BrokerUnavailable(f"topic {name} could not be created: {error.message.lower()}", reason="topic")


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
    """Compare the topics with the settings; changes nothing.

    Returns:
        The differences; empty if there are none.

    Raises:
        ConfigurationError: no broker is set.
        BrokerUnavailable: the broker does not answer.
    """
    async with opened_client(settings, client="doctor") as client:
        found = await describe_topics(client, [full_name(settings, topic) for topic in topics])
    ready = [(topic, item) for topic, item in zip(topics, found, strict=True) if item.state is TopicState.READY]
    configs = await _read_configs(settings, [item.name for _, item in ready]) if ready else {}
    findings = [_absence(item) for item in found if item.state is not TopicState.READY]
    for topic, item in ready:
        findings += _counts(settings, topic, item)
        findings += _config_findings(settings, topic, item.name, configs.get(item.name, {}))
    return tuple(findings)


def _absence(item: TopicDescription) -> TopicFinding:
    match item.state:
        case TopicState.FORBIDDEN:
            remedy = "Give this client the rights to describe, read and write the topic."
            return TopicFinding(
                item.name, TopicProblem.FORBIDDEN, Severity.ERROR, "this client may not use the topic", remedy
            )
        case TopicState.UNREADY:
            remedy = "Check the state of the brokers."
            return TopicFinding(item.name, TopicProblem.UNREADY, Severity.ERROR, "a partition has no leader", remedy)
        case _:
            return TopicFinding(
                item.name, TopicProblem.MISSING, Severity.ERROR, "the topic is missing", "Run `slotwire migrate`."
            )


def _counts(settings: KafkaSettings, topic: Topic, item: TopicDescription) -> list[TopicFinding]:
    findings = []
    wanted = partitions_of(settings, topic)
    if item.partitions != wanted:
        message = f"it has {item.partitions} partitions, the settings say {wanted}"
        remedy = f"Set SLOTWIRE_KAFKA__PARTITIONS={item.partitions}; never change the partitions of a keyed topic."
        severity = Severity.ERROR if topic.single_partition else Severity.WARNING
        findings.append(TopicFinding(item.name, TopicProblem.PARTITIONS, severity, message, remedy))
    if item.replicas < settings.replication_factor:
        message = f"a partition has {item.replicas} copies, the settings say {settings.replication_factor}"
        remedy = "Reassign its partitions to more brokers, or set SLOTWIRE_KAFKA__REPLICATION_FACTOR."
        findings.append(TopicFinding(item.name, TopicProblem.REPLICAS, Severity.WARNING, message, remedy))
    return findings


async def _read_configs(settings: KafkaSettings, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read the configuration of topics; those whose configuration this client may not read are left out."""
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


def _config_findings(settings: KafkaSettings, topic: Topic, name: str, found: dict[str, str]) -> list[TopicFinding]:
    """Find where a topic's configuration guarantees less than the settings."""
    findings = []
    wanted = wanted_configs(settings, topic)
    policy = found.get("cleanup.policy", wanted["cleanup.policy"])
    if policy != wanted["cleanup.policy"]:
        why = "an expired cursor stops the relay" if topic.compacted else "compaction drops events of a key"
        remedy = f"Set it to {wanted['cleanup.policy']}: {why}."
        findings.append(TopicFinding(name, TopicProblem.CLEANUP, Severity.ERROR, f"cleanup.policy is {policy}", remedy))
    for key, problem in _NUMBERS.items():
        if key not in found or key not in wanted:
            continue
        value, want = int(found[key]), int(wanted[key])
        if value >= want or (key == "retention.ms" and value == -1):
            continue
        severity = Severity.ERROR if key == "min.insync.replicas" else Severity.WARNING
        remedy = f"Raise it, for example with kafka-configs --alter --topic {name}."
        findings.append(TopicFinding(name, problem, severity, f"{key} is {value}, the settings say {want}", remedy))
    return findings
