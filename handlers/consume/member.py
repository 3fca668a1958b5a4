"""A member of the consumer group: reads records, dispatches them, commits settled ones, and watches its own progress.

The workarounds for known faults of aiokafka are here, where it is used; docs/explanation/consumers.md lists them.
What an agent may rely on is in docs/howto/write-an-agent.md, "What is promised".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from slotwire.handlers.consume.careful_consumer import close_consumer, committed_before, first_of, is_set
from slotwire.handlers.consume.membership import Membership
from slotwire.handlers.consume.placement import UNDECIDED, Placement
from slotwire.handlers.consume.reading import Reading
from slotwire.handlers.consume.watch import Watch
from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.dispatch.due import DueRuns
from slotwire.handlers.dispatch.queueing import Queueing
from slotwire.handlers.problems import OF_EVENTS, Problems
from slotwire.handlers.records import Partition
from slotwire.handlers.settle.ledger import read_settled
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.errors import BrokerUnavailable, DatabaseUnavailable, SchemaMismatch
from slotwire.ingest.foundation.kafka import translated
from slotwire.ingest.foundation.kafka_connection import connection_options
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.telemetry import CONSUMER_LAG_RECORDS, CONSUMER_STUCK, get_logger

FETCH_WAIT_MS = 100
"""How long the broker holds an empty fetch. It answers at once when a record comes, so this adds no latency. It bounds
how long a partition that was full waits until it is fetched again."""
COMMIT_INTERVAL_SECONDS = 0.5
RUNS_INTERVAL_SECONDS = 0.5
"""How often to look for runs that are to go on without an event. An agent without runs is not asked for any."""
ANSWER_TIMEOUT_SECONDS = 5.0
"""How long the broker may take for a commit or another request; aiokafka itself would retry for ever."""
START_TIMEOUT_SECONDS = 60.0
"""Joining waits until the other members have given back their partitions and the sessions of dead ones have expired."""
REBALANCE_TIMEOUT_SECONDS = 30.0
"""How long the group waits for a member to give back its partitions: longer than the grace, an interruption and a
commit together. A dead member is noticed by its session, not by this. aiokafka's own limit for a request is 40 s."""
NEVER_MS = 86_400_000
"""aiokafka's limit between two polls, disabled: polls do not depend on handlers, and `Watch` checks progress."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One membership, from joining to leaving. Make a new member for the next one."""

    def __init__(
        self,
        membership: Membership,
        kafka: KafkaSettings,
        agents: AgentsSettings,
        queueing: Queueing,
        due: DueRuns,
        placement: Placement,
        problems: Problems,
    ) -> None:
        self._membership = membership
        self._kafka = kafka
        self._agents = agents
        self._placement = placement
        self._queueing = queueing
        self._due = due
        self._problems = problems
        self._log = get_logger("consume").bind(agent=membership.agent)
        self._committed: dict[Partition, tuple[int, str]] = {}
        self._assigned = False
        self._generation = -1
        self._moves = 0
        self._assignment = asyncio.Event()
        self._patience = min(ANSWER_TIMEOUT_SECONDS, membership.stuck_after)
        self._dispatcher: Dispatcher
        self._consumer: Any
        self._reading: Reading

    async def run(self, *ends: asyncio.Event) -> None:
        """Work until one of the events is set, then finish or hand back running records, commit, and leave.

        Raises:
            BrokerUnavailable: the membership failed; uncommitted records will be delivered again.
        """
        failure: BrokerUnavailable | None = None
        async with asyncio.TaskGroup() as lanes:
            self._dispatcher = Dispatcher(
                self._queueing.handle,
                take_turn=self._queueing.take_turn,
                agent=self._membership.agent,
                max_in_flight=self._agents.max_in_flight,
                max_held=self._agents.max_held,
                spawn=lanes.create_task,
            )
            self._consumer = AIOKafkaConsumer(**self._options())
            self._reading = Reading(self._consumer, self._dispatcher, self._membership)
            try:
                await first_of(self._work(), *(is_set(event) for event in ends))
            except BrokerUnavailable as error:
                failure = error
                # Reported before leaving, which takes long when the broker does not answer.
                CONSUMER_STUCK.labels(self._membership.agent).set(error.reason == "stuck")
                self._problems.begin(OF_EVENTS.kafka, error)
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
            "auto_offset_reset": "none",  # `_make_ready` commits where a new agent begins
            "fetch_max_wait_ms": FETCH_WAIT_MS,
        }

    async def _work(self) -> None:
        """Join, then read, commit and watch, until one of them fails."""
        self._consumer.subscribe(self._membership.topics, listener=self)
        with translated():
            async with asyncio.timeout(START_TIMEOUT_SECONDS):
                await self._consumer.start()
        CONSUMER_STUCK.labels(self._membership.agent).set(0)
        self._problems.end(OF_EVENTS.kafka)
        self._problems.end("joining")
        await first_of(
            self._reading.run(), self._commit_settled(), self._watch(), self._tend_queue(), self._go_on_with_runs()
        )

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
            partition: commit
            for partition, commit in self._dispatcher.commits().items()
            if self._committed.get(partition) != commit
        }
        if not offsets:
            return True
        try:
            await self._send(offsets)
        except BrokerUnavailable as error:
            # Expected while partitions move: the records are delivered again, and the inbox knows them.
            self._log.info("commit_failed", reason=error.reason)
            return False
        self._committed.update(offsets)
        return True

    async def _send(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        with translated():
            async with asyncio.timeout(self._patience):
                await self._consumer.commit({TopicPartition(*key): value for key, value in offsets.items()})

    async def _tend_queue(self) -> None:
        """Make new partitions ready once their fences are known, and give lanes their turns."""
        dispatcher = self._dispatcher
        while True:
            try:
                # Else they may be another's in a moment, who would take us for dead.
                if self._assigned and (unready := dispatcher.unready):
                    await self._make_ready(unready)
                if self._assigned:  # asked again: they may have begun to move meanwhile
                    await self._placement.hold(dispatcher.partitions - set(dispatcher.unready))
                for turn in await self._queueing.due(dispatcher.partitions):
                    dispatcher.turn(turn)
            except (BrokerUnavailable, DatabaseUnavailable, SchemaMismatch) as error:
                if isinstance(error, BrokerUnavailable) and error.reason == UNDECIDED:
                    raise
                self._problems.begin("queue_unread", error)
            else:
                self._problems.end("queue_unread")
            await wait_for(self._assignment, self._membership.queue_interval)
            self._assignment.clear()

    async def _make_ready(self, partitions: Collection[Partition]) -> None:
        """Have records of new partitions be handled, unless partitions move meanwhile: then this is done again.

        Where the group has no offset, the one at which the agent begins is committed first.
        """
        moves = self._moves
        put_in_force = await self._queueing.load(partitions)
        known = await committed_before(self._consumer, partitions, self._patience)
        starts = await self._placement.starts(set(partitions) - known.keys())
        if moves != self._moves:
            return
        if starts:
            await self._send({partition: (offset, "") for partition, offset in starts.items()})
        if moves != self._moves:
            return
        died = await self._placement.begin(partitions)
        ends = await self._ends(died) if died else {}
        await self._queueing.beware(starts | {each: offset for each, (offset, _) in known.items()}, died, ends)
        if moves == self._moves:
            with translated():
                for partition, offset in starts.items():
                    self._consumer.seek(TopicPartition(*partition), offset)
            put_in_force()
            self._dispatcher.make_ready({each: read_settled(*known.get(each, (0, ""))) for each in partitions})

    async def _ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return where partitions end: their last stable offsets."""
        with translated():
            async with asyncio.timeout(self._patience):
                ends = await self._consumer.end_offsets([TopicPartition(*each) for each in partitions])
        return {Partition(*place): end for place, end in ends.items()}

    async def _go_on_with_runs(self) -> None:
        """Let runs go on whose time has come, once their partitions are read to the ends that these have now."""
        dispatcher = self._dispatcher
        while True:
            await asyncio.sleep(RUNS_INTERVAL_SECONDS)
            ready = dispatcher.partitions - set(dispatcher.unready)
            places = [TopicPartition(*each) for each in await self._due.look(ready)]
            try:
                with translated():
                    async with asyncio.timeout(self._patience):
                        # With read_committed this returns the last stable offset.
                        ends = await self._consumer.end_offsets(places) if places else {}
                        for place in self._due.partitions:
                            dispatcher.advance(place, await self._consumer.position(TopicPartition(*place)))
            except BrokerUnavailable as error:
                self._log.info("looking_failed", reason=error.reason)
                continue
            self._due.read_to({Partition(*place): end for place, end in ends.items()})
            for record in self._due.take(dispatcher.position):
                dispatcher.turn(record)

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
        places = [TopicPartition(*partition) for partition in dispatcher.partitions] if self._assigned else []
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
        """Begin nothing further and commit: aiokafka's members give back all partitions in a rebalance.

        Which ones come back is known at its end; what runs for longer than the grace goes on until then.
        """
        del revoked
        self._assigned = False
        self._moves += 1
        self._generation = self._group_generation
        await self._dispatcher.pause(self._membership.move_grace)
        await self._commit()
        await self._placement.leave(self._passed())

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Go on with the partitions that stayed ours, interrupt the work of the others, and start with new ones.

        A partition stayed ours if no generation of the group was between: then nobody else can have had it.
        """
        ours = {Partition(*place) for place in assigned}
        before = set(self._dispatcher.partitions)
        kept = self._dispatcher.resume(ours if self._group_generation == self._generation + 1 else ())
        for partition, position in kept.items():
            self._consumer.seek(TopicPartition(*partition), position)
        self._let_go(before - kept.keys())
        self._due.forget()
        self._dispatcher.open(ours, ready=False)
        self._assigned = True
        self._moves += 1
        self._assignment.set()
        self._log.info("partitions_assigned", count=len(ours), kept=len(kept))

    @property
    def _group_generation(self) -> int:
        """The group's generation: one more with each rebalance."""
        number: int = self._consumer._coordinator.generation  # noqa: SLF001 - no public way to it
        return number

    async def _leave(self) -> None:
        grace = self._membership.grace
        self._dispatcher.begin_stop()
        await self._placement.leave(self._passed())  # early: a kill while it stops is no run's fault
        await self._dispatcher.stop(self._agents.stop_grace_seconds if grace is None else grace)
        await self._commit()
        self._forget()
        await close_consumer(self._consumer, self._log)

    def _passed(self) -> Collection[Partition]:
        return self._queueing.passed(self._dispatcher.committable())

    def _forget(self) -> None:
        """Let go of all partitions."""
        self._let_go(set(self._dispatcher.partitions))
        self._dispatcher.close()

    def _let_go(self, partitions: Collection[Partition]) -> None:
        """Forget what belongs to partitions; another member reports their lag from now on."""
        self._moves += 1
        self._queueing.forget(partitions)
        for partition in partitions:
            CONSUMER_LAG_RECORDS.remove(self._membership.agent, partition.topic, str(partition.number))
            self._committed.pop(partition, None)
