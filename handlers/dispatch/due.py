"""Which runs of our partitions are to go on without an event: their wait is over, or their member is gone.

A wait may be answered by an event that is in the topic already. So a run goes on only once its partition was read to
the end that it had after the run was due: whatever came in time has had its turn, also after a downtime.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from time import monotonic
from uuid import UUID

from slotwire.handlers.dispatch.runs import Runs
from slotwire.handlers.long_work.journal import DueRun, unpack
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Partition, SetAsideRecord
from slotwire.ingest.foundation.errors import DatabaseUnavailable, SchemaMismatch
from slotwire.schemas.codec import UndecodableRecord

FORGET_EVERY = 7_200
"""Looks between two removals of old journals: about an hour."""
RENEWALS = 4
"""How often claims are renewed while they hold."""


class DueRuns:
    """The runs of one agent that are due in one process.

    Attributes:
        partitions: those that have to be read further before a run of theirs goes on.
    """

    def __init__(self, runs: Runs, journal: PostgresJournal, versions: Collection[str], problems: Problems) -> None:
        self._runs = runs
        self._journal = journal
        self._versions = versions
        self._problems = problems
        self._found: dict[UUID, DueRun] = {}
        self._ends: dict[UUID, int] = {}
        self._looks = 0
        self._renewed = 0.0

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions of the runs that are due."""
        return frozenset(each.partition for each in self._found.values())

    def forget(self) -> None:
        """Forget what was found: partitions were assigned."""
        self._found.clear()
        self._ends.clear()
        self._runs.forget()

    async def look(self, partitions: Collection[Partition]) -> frozenset[Partition]:
        """Hold our claims, and look for runs of some partitions that are due; return whose ends have to be asked."""
        if not self._runs.in_use:
            return frozenset()
        try:
            await self._tend()
            beside = {*self._found, *self._runs.queued, *self._runs.at_work}
            found = await self._journal.due(tuple(partitions), self._versions, beside) if partitions else ()
        except (DatabaseUnavailable, SchemaMismatch) as error:
            self._problems.begin("runs", error)
            return frozenset()
        self._problems.end("runs")
        self._found |= {each.event_id: each for each in found}
        self._found = {key: each for key, each in self._found.items() if each.partition in partitions}
        return frozenset(each.partition for each in self._found.values() if each.event_id not in self._ends)

    async def _tend(self) -> None:
        now = monotonic()
        if self._runs.at_work and now - self._renewed >= self._journal.claim_seconds / RENEWALS:
            await self._journal.renew(self._runs.at_work)
            self._renewed = now
        if self._looks % FORGET_EVERY == 0:
            await self._journal.forget()
        self._looks += 1

    def read_to(self, ends: Mapping[Partition, int]) -> None:
        """Note the ends that partitions have now, for the runs that were found due before."""
        for event_id, each in self._found.items():
            if event_id not in self._ends and each.partition in ends:
                self._ends[event_id] = ends[each.partition]

    def take(self, position: Callable[[Partition], int]) -> Iterator[SetAsideRecord]:
        """Take the runs whose partitions were read to where they ended."""
        for event_id, each in list(self._found.items()):
            read = position(each.partition)
            if (end := self._ends.get(event_id)) is None or read < end:
                continue
            del self._found[event_id], self._ends[event_id]
            try:
                record, _ = unpack(each.record)
            except UndecodableRecord:
                continue  # of a type that came with a later version, whose process takes it
            self._runs.queued.add(event_id)
            yield SetAsideRecord.of(record, event_id, read - 1)
