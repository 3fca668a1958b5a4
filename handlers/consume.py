"""A member of the consumer group: reads records, dispatches them, commits settled ones, and watches its own progress.

The workarounds for known faults of aiokafka are here, where it is used; docs/explanation/consumers.md lists them.
What an agent may rely on is in docs/howto/write-an-agent.md, "What is promised".
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from slotwire.handlers.dispatch import Dispatcher, Handle
from slotwire.handlers.placement import offsets_lost
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.watch import Watch
from slotwire.ingest.foundation.errors import BrokerUnavailable, RecordRefused
from slotwire.ingest.foundation.kafka import translated
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.settings import AgentsSettings, KafkaSettings
from slotwire.ingest.foundation.telemetry import CONSUMER_LAG_RECORDS, CONSUMER_STUCK, get_logger

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

POLL_SECONDS = 0.2
"""How long one poll waits for records. The next follows at once, for the partitions that are ours by then."""
FULL_POLL_SECONDS = 0.02
"""How long to wait for room after an empty poll while a partition is full."""
FETCH_WAIT_MS = 100
"""How long the broker holds an empty fetch. It answers at once when a record comes, so this adds no latency. It bounds
how long a partition that was full waits until it is fetched again."""
COMMIT_INTERVAL_SECONDS = 0.5
ANSWER_TIMEOUT_SECONDS = 5.0
"""How long the broker may take for a commit or another request; aiokafka itself would retry for ever."""
START_TIMEOUT_SECONDS = 60.0
"""Joining waits until the other members have given back their partitions and the sessions of dead ones have expired."""
CLOSE_TIMEOUT_SECONDS = 5.0
REVOKE_GRACE_SECONDS = 4.0
"""How long running handlers may take to finish when partitions move. The whole group waits for us meanwhile."""
REBALANCE_TIMEOUT_SECONDS = 30.0
"""How long the group waits for a member to give back its partitions: longer than the grace, an interruption and a
commit together. A dead member is noticed by its session, not by this. aiokafka's own limit for a request is 40 s."""
NEVER_MS = 86_400_000
"""aiokafka's limit between two polls, disabled: polls do not depend on handlers, and `Watch` checks progress."""

_GONE = {
    "offset_out_of_range": "the records that come next are gone, older than Kafka keeps them,",
    "no_offset_for_partition": "Kafka has forgotten where a partition continues",
}
"""Why nothing can be read at our place, by aiokafka's errors."""


@dataclass(frozen=True)
class Membership:
    """Which agent joins which group for which topics.

    Attributes:
        agent: the agent's name.
        group: the consumer group's full name.
        topics: their full names.
        interval: seconds between two checks of progress.
        stuck_after: seconds of lag without progress after which the consumer is replaced.
    """

    agent: str
    group: str
    topics: tuple[str, ...]
    interval: float = 5.0
    stuck_after: float = 30.0


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One membership, from joining to leaving. Make a new member for the next one."""

    def __init__(
        self, membership: Membership, kafka: KafkaSettings, agents: AgentsSettings, handle: Handle, problems: Problems
    ) -> None:
        self._membership = membership
        self._kafka = kafka
        self._agents = agents
        self._handle = handle
        self._problems = problems
        self._log = get_logger("consume").bind(agent=membership.agent)
        self._committed: dict[Partition, int] = {}
        self._assigned = False
        self._patience = min(ANSWER_TIMEOUT_SECONDS, membership.stuck_after)
        self._dispatcher: Dispatcher
        self._consumer: Any

    async def run(self, *ends: asyncio.Event) -> None:
        """Work until one of the events is set, then finish or hand back running records, commit, and leave.

        Raises:
            BrokerUnavailable: the membership failed; uncommitted records will be delivered again.
        """
        failure: BrokerUnavailable | None = None
        async with asyncio.TaskGroup() as lanes:
            self._dispatcher = Dispatcher(
                self._handle,
                agent=self._membership.agent,
                max_in_flight=self._agents.max_in_flight,
                spawn=lanes.create_task,
            )
            self._consumer = AIOKafkaConsumer(**self._options())
            try:
                await _first_of(self._work(), *(_is_set(event) for event in ends))
            except BrokerUnavailable as error:
                failure = error
                # Reported before leaving, which takes long when the broker does not answer.
                CONSUMER_STUCK.labels(self._membership.agent).set(error.reason == "stuck")
                self._problems.begin("kafka", error)
            finally:
                await self._leave()
        if failure is not None:
            raise failure

    def _options(self) -> dict[str, Any]:
        session_ms = int(self._agents.session_timeout_seconds * 1000)
        return {
            **connection_options(self._kafka, client=f"agent-{self._membership.agent}"),
            "group_id": self._membership.group,
            "group_instance_id": self._agents.group_instance_id,
            "session_timeout_ms": session_ms,
            "heartbeat_interval_ms": session_ms // 10,
            "rebalance_timeout_ms": int(REBALANCE_TIMEOUT_SECONDS * 1000),
            "max_poll_interval_ms": NEVER_MS,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # `placement` has committed an offset for each partition
            "fetch_max_wait_ms": FETCH_WAIT_MS,
        }

    async def _work(self) -> None:
        """Join, then read, commit and watch, until one of them fails."""
        self._consumer.subscribe(self._membership.topics, listener=self)
        with translated():
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                await self._consumer.start()
        CONSUMER_STUCK.labels(self._membership.agent).set(0)
        self._problems.end("kafka")
        self._problems.end("joining")
        await _first_of(self._read(), self._commit_settled(), self._watch())

    async def _read(self) -> None:
        """Hand records to the dispatcher, for the partitions that have room.

        A partition without room is left out of the poll, which keeps its fetched records in the client's buffer;
        pausing the partition would discard them. Nothing is awaited between aiokafka's move of the position and our
        note of it, so that a commit never sees one without the other.
        """
        dispatcher = self._dispatcher
        while True:
            dispatcher.changed.clear()
            rooms = dispatcher.rooms()
            if dispatcher.partitions and not rooms:
                await dispatcher.changed.wait()
                continue
            full = len(rooms) < len(dispatcher.partitions)
            with _readable(self._membership), translated():
                batches = await self._consumer.getmany(
                    *(TopicPartition(*partition) for partition in rooms),
                    timeout_ms=0 if full else int(POLL_SECONDS * 1000),
                    max_records=min(rooms.values(), default=1),
                )
            with translated():
                for place, records in batches.items():
                    position = await self._consumer.position(place)  # known, so this does not wait
                    dispatcher.deliver(Partition(*place), map(_record, records), position=position)
            if full and not batches:
                await wait_for(dispatcher.changed, FULL_POLL_SECONDS)
            else:
                # A poll that finds records never waits; let the lanes run, too.
                await asyncio.sleep(0)

    async def _commit_settled(self) -> None:
        """Commit at intervals.

        Raises:
            BrokerUnavailable: no commit has succeeded for so long that the membership must be lost.
        """
        loop = asyncio.get_running_loop()
        succeeded = loop.time()
        while True:
            await asyncio.sleep(COMMIT_INTERVAL_SECONDS)
            if await self._commit():
                succeeded = loop.time()
            elif loop.time() - succeeded >= self._membership.stuck_after:
                raise BrokerUnavailable("no commit has succeeded for too long", reason="stuck")

    async def _commit(self) -> bool:
        """Commit the offsets that changed; returns whether the broker has them all now."""
        offsets = {
            partition: offset
            for partition, offset in self._dispatcher.committable().items()
            if self._committed.get(partition) != offset
        }
        if not offsets:
            return True
        try:
            with translated():
                async with asyncio.timeout(self._patience):
                    await self._consumer.commit({TopicPartition(*key): value for key, value in offsets.items()})
        except BrokerUnavailable as error:
            # Expected while partitions move: the records are delivered again, and the inbox knows them.
            self._log.info("commit_failed", reason=error.reason)
            return False
        self._committed.update(offsets)
        return True

    async def _watch(self) -> None:
        """Check progress at intervals, and end a consumer that fell silent.

        Raises:
            BrokerUnavailable: the consumer is stuck, or the broker has not answered for as long.
        """
        membership, loop = self._membership, asyncio.get_running_loop()
        watch = Watch(membership.stuck_after, now=loop.time())
        while True:
            await asyncio.sleep(membership.interval)
            ends, positions = await self._look()
            rooms = self._dispatcher.rooms().keys()
            stuck = watch.look(loop.time(), ends=ends, positions=positions, rooms=rooms, assigned=self._assigned)
            if stuck is not None:
                raise BrokerUnavailable(f"the consumer is stuck: {stuck}", reason="stuck")

    async def _look(self) -> tuple[dict[Partition, int] | None, dict[Partition, int]]:
        """Return the last stable offsets and our positions; the first is None when the broker does not answer."""
        dispatcher, ends, positions = self._dispatcher, {}, {}
        places = [TopicPartition(*partition) for partition in dispatcher.partitions]
        try:
            with translated():
                async with asyncio.timeout(self._patience):
                    if places:
                        # With read_committed this returns the last stable offset.
                        ends = await self._consumer.end_offsets(places)
                    for place in places:
                        positions[Partition(*place)] = await self._consumer.position(place)
                        dispatcher.advance(Partition(*place), positions[Partition(*place)])
        except BrokerUnavailable as error:
            self._log.info("looking_failed", reason=error.reason)
            return None, positions
        for place, end in ends.items():
            settled = dispatcher.committable().get(Partition(*place), end)
            lag = max(0, end - settled)
            CONSUMER_LAG_RECORDS.set(lag, self._membership.agent, place.topic, str(place.partition))
        return {Partition(*place): end for place, end in ends.items()}, positions

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride] - aiokafka awaits it if it can
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        """Finish running handlers, commit, and let go: aiokafka's members give back all partitions in a rebalance."""
        del revoked
        self._assigned = False
        await self._dispatcher.stop(REVOKE_GRACE_SECONDS)
        await self._commit()
        self._forget()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start with the partitions the group assigned to us."""
        self._assigned = True
        self._dispatcher.open(Partition(*place) for place in assigned)
        self._log.info("partitions_assigned", count=len(self._dispatcher.partitions))

    async def _leave(self) -> None:
        await self._dispatcher.stop(self._agents.stop_grace_seconds)
        await self._commit()
        self._forget()
        await _close(self._consumer, self._log)

    def _forget(self) -> None:
        """Let go of all partitions; another member reports their lag from now on."""
        for topic, number in self._dispatcher.partitions:
            CONSUMER_LAG_RECORDS.remove(self._membership.agent, topic, str(number))
        self._dispatcher.close()
        self._committed.clear()


async def _close(consumer: Any, log: FilteringBoundLogger) -> None:
    """Close a consumer, whatever state it is in.

    `stop()` runs in a task of its own: while the broker is away it can raise a CancelledError of its own (it cancels
    its fetches and then awaits one that sleeps), which would cancel the task that awaits it.
    """
    closing = asyncio.create_task(consumer.stop(), name="closing a consumer")
    await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_SECONDS)
    if closing.done() and not closing.cancelled() and closing.exception() is None:
        return
    closing.cancel()
    await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_SECONDS)
    log.info("leaving_failed")
    # A second `stop()` does nothing, and the first one has not closed its connections.
    letting_go = asyncio.create_task(consumer._client.close())  # noqa: SLF001 - no public way, see above
    await asyncio.wait({letting_go}, timeout=CLOSE_TIMEOUT_SECONDS)
    for task in (closing, letting_go):
        if task.done() and not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not warn


@contextmanager
def _readable(membership: Membership) -> Iterator[None]:
    """Hold where the client cannot take a batch apart, or where there is nothing at our place any more.

    Raises:
        BrokerUnavailable: naming what is wrong; whatever the client can take apart costs one record at most.
    """
    try:
        yield
    except BrokerUnavailable as error:
        if (gone := _GONE.get(error.reason)) is None:
            raise
        raise offsets_lost(membership.agent, " or ".join(membership.topics), gone) from error
    except Exception as error:
        what = error.reason if isinstance(error, RecordRefused) else type(error).__name__
        raise BrokerUnavailable(
            f"Kafka has a batch of records that cannot be read: {what}",
            reason="unreadable",
            remedy="Set the group's offset past it, as docs/runbooks/agent-stopped.md says.",
        ) from error


def _record(record: ConsumerRecord) -> Record:
    return Record(
        Partition(record.topic, record.partition),
        record.offset,
        record.key,
        record.value,
        tuple(record.headers),
        _published(record.timestamp),
    )


def _published(timestamp: int) -> datetime:
    """Read a record's timestamp, in milliseconds; any producer sets it, so one out of range counts as the epoch."""
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


async def _is_set(event: asyncio.Event) -> None:
    await event.wait()


async def _first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Run all concurrently until one ends or fails, then cancel the others. A failure is raised as it is."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        if task.cancelled():  # by aiokafka, see `_close`
            raise BrokerUnavailable("Kafka's client cancelled a wait", reason="client_state")
        task.result()
