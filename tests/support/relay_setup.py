"""What tests of the relay need: a log with events in it, topics, a relay, and a reader of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr

from slotwire.ingest.foundation.clock import Clock, SystemClock
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.kafka import describe_topics, full_name, opened_client, require_topics
from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.foundation.settings import DatabaseSettings, KafkaSettings, RelaySettings, Settings
from slotwire.ingest.foundation.topic_admin import ensure_topics, partitions_of, wanted_configs
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.batch import EventRow
from slotwire.ingest.relay.handoff import Handoff
from slotwire.ingest.relay.lease import Lease
from slotwire.ingest.relay.log_reader import CursorFrom, LogIdentity, read_identity
from slotwire.ingest.relay.process import run_relay
from slotwire.ingest.relay.shard import ShardRelay
from slotwire.schemas.events import InviteeCreated, RoutingFormSubmissionCreated
from slotwire.schemas.topics import EVENT_TOPICS, Topic
from tests.support.door import let_in
from tests.support.public_endpoint import invitee_body

DEADLINE_SECONDS = 90.0
"""No wait of these tests is longer."""
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_HEAD = "SELECT epoch, version, position, total FROM slotwire.heads WHERE shard = $1 ORDER BY version DESC LIMIT 1"
_ORGANIZATION = """
INSERT INTO slotwire.organizations (org, uri, shard, created_at)
VALUES ('A', 'https://api.calendly.com/organizations/A', 0, now()) ON CONFLICT DO NOTHING
"""
_APPEND = """
SELECT * FROM slotwire.append(
    p_shard => $1, p_epoch => $2, p_version => $3, p_now => $4, p_position => $5, p_total => $6,
    p_results => '{}', p_events => $7, p_bookings => '[]', p_roots => '[]')
"""


@dataclass(frozen=True)
class LoggedEvent:
    """An event to append; the data is opaque to the relay."""

    key: str = "chain-1"
    data: bytes = b'{"uri": "https://api.calendly.com/scheduled_events/E1/invitees/I1"}'
    type: str = InviteeCreated.type
    org: str = "ORGANIZATION"
    subject: str = "https://api.calendly.com/scheduled_events/E1/invitees/I1"
    time: datetime = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    inferred: bool = False
    traceparent: str | None = TRACE
    tenant: str | None = None
    id: UUID = field(default_factory=uuid4)


def routing_form() -> LoggedEvent:
    """An event of the other topic."""
    return LoggedEvent(type=RoutingFormSubmissionCreated.type, key="https://api.calendly.com/submissions/S1")


async def append(connection: Connection, events: Sequence[LoggedEvent], *, shard: int = 0) -> None:
    """Append events as the writer does, while nobody leads: a leader takes it that nobody else appends."""
    now = datetime.now(UTC)
    rows = [
        EventRow(
            id=event.id,
            type=event.type,
            org=event.org,
            subject=event.subject,
            key=event.key,
            time=event.time,
            recorded_at=now,
            delivery_id=None,
            origin="webhook",
            inferred=event.inferred,
            traceparent=event.traceparent,
            tenant=event.tenant,
            data=event.data,
        )
        for event in events
    ]
    applied = False
    while not applied:  # a relay that takes over meanwhile moves the head
        head = await connection.fetchrow(_HEAD, shard)
        assert head is not None
        place = (head["position"], head["total"])
        row = await connection.fetchrow(_APPEND, shard, head["epoch"], head["version"], now, *place, rows)
        assert row is not None
        applied = row["applied"]


def relay_settings(url: str, bootstrap: str, prefix: str, **relay: Any) -> Settings:
    """Settings of a relay on the embedded stack."""
    return Settings(
        database_url=SecretStr(url),
        database=DatabaseSettings(),
        kafka=KafkaSettings(
            bootstrap_servers=bootstrap, topic_prefix=prefix, partitions=3, replication_factor=1, min_insync_replicas=1
        ),
        relay=RelaySettings(**relay),
    )


@dataclass(frozen=True)
class RelaySetup:
    """One test's log, topics and writer.

    Attributes:
        settings: the relay's.
        writer: a connection of the runtime role, to append and look with.
        owner: a connection of the owner, to restore and meddle with.
    """

    settings: Settings
    writer: Connection
    owner: Connection

    async def append(self, *events: LoggedEvent, shard: int = 0) -> None:
        """Append events in one batch."""
        await append(self.writer, events, shard=shard)

    async def accept(self, count: int) -> None:
        """Let in so many bookings, each of which makes one event, for a relay that leads: it alone appends."""
        await self.owner.execute(_ORGANIZATION)
        for start in range(0, count, 100):
            bodies = [invitee_body() for _ in range(start, min(count, start + 100))]
            await let_in(self.owner, *bodies)
        await self.owner.execute("SELECT pg_notify('slotwire_log', '0')")

    async def log_ids(self) -> list[str]:
        """Return the events of the log, in its order."""
        rows = await self.owner.fetch("SELECT event_id FROM slotwire.events ORDER BY position")
        return [str(row["event_id"]) for row in rows]

    def relay(self, **changes: Any) -> Settings:
        """Return the settings with other limits of the relay."""
        return self.settings.model_copy(update={"relay": self.settings.relay.model_copy(update=changes)})


@asynccontextmanager
async def relay_setup(
    database: Database, bootstrap: str, prefix: str, *, topics: bool = True
) -> AsyncIterator[RelaySetup]:
    """Open connections and make the topics; with `topics=False` the test makes them."""
    settings = relay_settings(database.url_of["relay"], bootstrap, prefix)
    if topics:
        await ensure_topics(settings.kafka)
    writer = await asyncpg.connect(database.runtime_url)
    owner = await asyncpg.connect(database.owner_url)
    try:
        yield RelaySetup(settings, writer, owner)
    finally:
        await writer.close()
        await owner.close()


@asynccontextmanager
async def leading_relay(
    settings: Settings, *, shard: int = 0, cursor_from: str | CursorFrom | None = None, handoff: Handoff | None = None
) -> AsyncIterator[tuple[ShardRelay, LogIdentity]]:
    """Hold a shard's lease and its relay, to be stepped by hand."""
    log = await read_identity(settings)
    async with asyncio.timeout(None) as limit, AsyncExitStack() as attempts:
        limit.reschedule(asyncio.get_running_loop().time() + DEADLINE_SECONDS)
        lease = await attempts.enter_async_context(Lease.waiting(settings, shard, asyncio.Event()))
        assert lease is not None
        limit.reschedule(None)
        relay = ShardRelay(settings, log, lease, SystemClock(), handoff=handoff, cursor_from=_choice(cursor_from))
        try:
            yield relay, log
        finally:
            await relay.let_go()


async def drain(relay: ShardRelay) -> int:
    """Step until nothing waits; return how many events were passed."""
    total = 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            passed = await relay.step()
            total += passed
            if not passed and relay.settled:
                return total


@asynccontextmanager
async def running_relay(
    settings: Settings, *, cursor_from: str | CursorFrom | None = None, clock: Clock | None = None
) -> AsyncIterator[Health]:
    """Run the relay process in the background, stopping it at the end as a signal would."""
    stop, health = asyncio.Event(), Health("relay")
    async with asyncio.TaskGroup() as group:
        work = run_relay(settings, stop, health=health, clock=clock or SystemClock(), cursor_from=_choice(cursor_from))
        group.create_task(work)
        try:
            yield health
        finally:
            stop.set()


async def committed_records(
    settings: Settings, expected: int, *topics: Topic, seconds: float = DEADLINE_SECONDS
) -> list[ConsumerRecord[bytes, bytes]]:
    """Read what readers of committed records see: all there is now, and until there are so many.

    Returns:
        The records by position in the log, so that a record seen twice is there twice.
    """
    found = [record async for record in each_committed(settings, expected, *topics, seconds=seconds)]
    return sorted(found, key=sequence)


async def each_committed(
    settings: Settings, expected: int, *topics: Topic, seconds: float
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """Yield what readers of committed records see, as `committed_records`: each partition's in their order."""
    names = [full_name(settings.kafka, topic) for topic in topics or EVENT_TOPICS]
    async with opened_client(settings.kafka, client="test") as client:
        described = await require_topics(client, names)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, number) for topic in described for number in range(topic.partitions)]
        consumer.assign(partitions)
        found = 0
        async with asyncio.timeout(seconds):
            while found < expected or not await _at_end(consumer, partitions):
                for records in (await consumer.getmany(timeout_ms=20)).values():
                    found += len(records)
                    for record in records:
                        yield record
    finally:
        await consumer.stop()


async def _at_end(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
    ends = await consumer.end_offsets(partitions)
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])


def header(record: ConsumerRecord[bytes, bytes], name: str) -> str | None:
    """Return a record's header as text."""
    return next((value.decode() for key, value in record.headers if key == name), None)


def sequence(record: ConsumerRecord[bytes, bytes]) -> int:
    """Return a record's position in the log."""
    return int(header(record, "ce_sequence") or -1)


def ids(records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[str | None]:
    """Return the records' event ids."""
    return [header(record, "ce_id") for record in records]


def in_order(records: Sequence[ConsumerRecord[bytes, bytes]]) -> bool:
    """Tell whether each partition holds its records in the order of the log, none of them twice."""
    places: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for record in records:
        places.setdefault((record.topic, record.partition), []).append((record.offset, sequence(record)))
    runs = [[position for _, position in sorted(place)] for place in places.values()]
    return all(run == sorted(set(run)) for run in runs)


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Poll until a condition holds that nothing signals."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - said above
            await asyncio.sleep(0.02)


async def make_topic(settings: Settings, topic: Topic, **configs: str) -> None:
    """Make a topic with a configuration of its own, as a user might have."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        name = full_name(settings.kafka, topic)
        count = partitions_of(settings.kafka, topic)
        config = {**wanted_configs(settings.kafka, topic), **configs}
        await admin.create_topics([NewTopic(name, count, 1, topic_configs=config)])
    finally:
        await admin.close()

    async def led() -> bool:
        async with opened_client(settings.kafka, client="test") as client:
            (found,) = await describe_topics(client, [name])
        return found.state == "ready"

    await until(led)


def _choice(cursor_from: str | CursorFrom | None) -> CursorFrom | None:
    return CursorFrom(cursor_from) if isinstance(cursor_from, str) else cursor_from
