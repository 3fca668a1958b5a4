"""Finds which event ends the processes that run it, without a note of each run in the usual case.

A process that works on a partition has its name there, and takes it away when it leaves in order. Whoever finds the
name of another one knows that it has died, and works with care on what that process may have had in work: a run is
noted before it starts, and the note goes with its end. What is noted when the next process dies is *suspected*.
Suspects run one at a time in a process, beside everything else, so that the next death has one of them to blame: it
counts as an attempt of that event. An event is suspected no more once it is settled. So a process that is killed for no
fault of its events blames each time another one, if any.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

from slotwire.handlers.patience import Interrupted, Patience, drawn
from slotwire.handlers.policy import RetryPolicy
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.ledger import MAX_TRACKED
from slotwire.handlers.settle.noted_runs import NotedRuns, RunSuspicion
from slotwire.ingest.foundation.errors import SlotwireError
from slotwire.ingest.foundation.telemetry import get_logger

SPAN = 2 * MAX_TRACKED
"""How many offsets behind the committed one a process may have had in work: each record may have a marker beside it."""
MIN_DEATHS = 3
"""No event is given up before so many processes died with it alone, however few its attempts are."""
MAX_PAUSE_SECONDS = 10.0
"""The longest pause before an event that is blamed runs again: what else there is has that time for itself."""
TURN_SECONDS = 10.0
"""After so long the next suspect may begin beside one that runs; twice as long for each death that one has seen."""
END_SECONDS = 1.0
"""How long it may take to note that a run has ended, when it was interrupted."""


class ProcessLife:
    """One process, from its start to its end, as all its agents know it.

    Attributes:
        id: its name in notes.
        turn: held by the suspect that runs.
    """

    def __init__(self) -> None:
        self.id = uuid4()
        self.turn = asyncio.Lock()


class Careful:
    """What one agent runs with care in one process."""

    def __init__(
        self,
        noted: NotedRuns,
        life: ProcessLife,
        retry: RetryPolicy,
        patience: Patience,
        show: Callable[[UUID, int], None] | None = None,
    ) -> None:
        """Take what it needs.

        Args:
            noted: the notes.
            life: of this process.
            retry: how often, and how soon, the agent tries again.
            patience: how Postgres is waited for.
            show: shows an author that an event runs with which so many processes have died, in place of the log.
        """
        self.noted = noted
        self.life = life
        self.retry = retry
        self.patience = patience
        self._show = show
        self._until: dict[Partition, int] = {}
        self._suspects: dict[Partition, dict[UUID, RunSuspicion]] = {}
        self._log = get_logger("careful").bind(agent=noted.agent)

    async def beware(
        self, offsets: Mapping[Partition, int], died: Mapping[Partition, UUID], ends: Mapping[Partition, int]
    ) -> None:
        """Learn what is suspected of partitions that this process takes; see `Queueing.beware`."""
        found = await self.noted.conclude(died, offsets)
        self.forget(offsets)
        for partition in died:
            until = offsets[partition] + SPAN
            self._until[partition] = min(until, ends.get(partition, until))
        for (partition, event_id), suspicion in found.items():
            self._suspects.setdefault(partition, {})[event_id] = suspicion
        if died:
            blamed = max((each.deaths for each in found.values()), default=0)
            self._log.warning("process_died", partitions=len(died), suspects=len(found), most_deaths=blamed)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Forget partitions: other processes have them."""
        for partition in partitions:
            self._until.pop(partition, None)
            self._suspects.pop(partition, None)

    def passed(self, offsets: Mapping[Partition, int]) -> set[Partition]:
        """Return the partitions in which nothing is left of what a process that died may have had in work.

        Args:
            offsets: those that may be committed.
        """
        return {each for each, until in self._until.items() if offsets.get(each, -1) >= until}

    def of(self, record: Record, event_id: UUID) -> Care | None:
        """Return how an event is to be run; None, the usual case, if it may just run."""
        if not self._until and not self._suspects:
            return None
        partition = record.partition
        suspicion = self._suspects.get(partition, {}).get(event_id)
        if suspicion is None and record.offset >= self._until.get(partition, -1):
            return None
        return Care(self, partition, event_id, suspicion)

    def clear(self, partition: Partition, event_id: UUID) -> None:
        """Suspect an event no more."""
        suspects = self._suspects.get(partition, {})
        suspects.pop(event_id, None)
        if not suspects:
            self._suspects.pop(partition, None)

    def tell(self, event_id: UUID, suspicion: RunSuspicion) -> None:
        """Say that an event runs with which processes have died."""
        if self._show is not None:
            self._show(event_id, suspicion.seen)
        else:
            self._log.warning("run_suspected", event_id=str(event_id), deaths=suspicion.deaths, seen=suspicion.seen)


@dataclass(frozen=True)
class Care:
    """How one event is run.

    Attributes:
        careful: of its agent.
        partition: of its record.
        event_id: the event.
        suspicion: what is known of it; None if no process died while it ran, as far as is known.
    """

    careful: Careful
    partition: Partition
    event_id: UUID
    suspicion: RunSuspicion | None

    async def begin(self, stopping: asyncio.Event) -> GiveUpReason | int:
        """Wait until it may be tried again, after a death; return how many attempts that makes, or why it is given up.

        Raises:
            Interrupted: the work was asked to stop.
        """
        if self.suspicion is None:
            return 0
        self.careful.tell(self.event_id, self.suspicion)
        deaths, retry = self.suspicion.deaths, self.careful.retry
        if deaths >= max(retry.attempts, MIN_DEATHS):
            return GiveUpReason(f"its process died {deaths} times while it ran", deaths)
        if deaths:
            pause = min(retry.pause(deaths, drawn()), MAX_PAUSE_SECONDS)
            await self.careful.patience.wait(pause, stopping)
        return min(deaths, retry.attempts - 1)

    @asynccontextmanager
    async def turn(self, stopping: asyncio.Event) -> AsyncGenerator[None, None]:
        """Hold back other suspects of the process while the block runs, if this is one; not for ever.

        Raises:
            Interrupted: the work was asked to stop before its turn came.
        """
        if self.suspicion is None:
            yield
            return
        turn = self.careful.life.turn
        await _taken_unless(turn.acquire, turn.release, stopping)
        with released_after(turn, TURN_SECONDS * 2.0 ** min(self.suspicion.seen, 16)):
            yield

    @asynccontextmanager
    async def noted(self, stopping: asyncio.Event) -> AsyncGenerator[None, None]:
        """Note the run that the block is.

        Raises:
            Interrupted: the work was asked to stop before it was noted.
        """
        noted, place = self.careful.noted, (self.partition, self.event_id)
        await self.careful.patience.until_answered("postgres", lambda: noted.begin(place), stopping)
        try:
            yield
        finally:
            with suppress(SlotwireError, TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await noted.end(place)

    async def end(self, result: RecordResult, stopping: asyncio.Event) -> None:
        """Suspect the event no more, if it is settled."""
        if self.suspicion is None or result.status in {RecordStatus.HANDED_BACK, RecordStatus.POSTPONED}:
            return
        place = self.partition, self.event_id
        await self.careful.patience.until_answered("postgres", lambda: self.careful.noted.drop(place), stopping)
        self.careful.clear(*place)


async def _taken_unless(
    take: Callable[[], Awaitable[object]], release: Callable[[], None], stopping: asyncio.Event
) -> None:
    """Wait for a lock, or until the work is asked to stop."""
    taking, stopped = asyncio.ensure_future(take()), asyncio.ensure_future(stopping.wait())
    taken = False
    try:
        await asyncio.wait({taking, stopped}, return_when=asyncio.FIRST_COMPLETED)
        taken = taking.done() and not stopping.is_set()
    finally:
        stopped.cancel()
        if taking.done() and not taken:
            release()
        taking.cancel()
    if not taken:
        raise Interrupted


@contextmanager
def released_after(lock: asyncio.Lock, seconds: float) -> Iterator[None]:
    """Release a lock at the end of the block, or after a time, if that is earlier."""
    held = True

    def release() -> None:
        nonlocal held
        if held:
            held = False
            lock.release()

    timer = asyncio.get_running_loop().call_later(seconds, release)
    try:
        yield
    finally:
        timer.cancel()
        release()
