"""The journal in Postgres."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import asyncpg

from slotwire.handlers.batching import CallBatcher, Reply
from slotwire.handlers.long_work.journal import (
    Asked,
    Busy,
    ClaimRequest,
    DueRun,
    Entry,
    LaneKey,
    RunClaim,
    SetAside,
    StoredApproval,
    StoredRun,
    lane_key,
)
from slotwire.handlers.long_work.versions import JournalMigration
from slotwire.handlers.records import Partition
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import borrowed, read_queries, translated

MAX_DUE = 50
"""Runs that go on at once without an event of their own."""
KEPT = timedelta(days=30)
"""For how long the journal of a dead letter is kept."""

_QUERIES = read_queries("slotwire.handlers.sql", "runs.sql")


class PostgresJournal:
    """The journal of one agent in one process.

    Attributes:
        owner: this process, as claims name it.
        claim_seconds: how long a claim holds that is not renewed: for so long nobody may conclude what became of a
            step.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, agent: str, clock: Clock, claim_seconds: float) -> None:
        self.owner = uuid4()
        self.claim_seconds = claim_seconds
        self._pool = pool
        self._agent = agent
        self._clock = clock
        self._of_key = CallBatcher(self._load_keys)

    async def in_use(self) -> bool:
        """Say whether the agent has any run."""
        with translated():
            found: bool = await self._pool.fetchval(_QUERIES["runs_in_use"], self._agent)
        return found

    async def of_key(self, key: LaneKey) -> tuple[StoredRun, ...]:
        """Return the runs that an event of a key may concern, in the order of the log."""
        return await self._of_key(key)

    async def _load_keys(self, keys: tuple[LaneKey, ...], reply: Reply[LaneKey, tuple[StoredRun, ...]]) -> None:
        async with borrowed(self._pool) as connection:
            orgs, names = [org for org, _ in keys], [key for _, key in keys]
            rows = await connection.fetch(_QUERIES["runs_of_keys"], self._agent, orgs, names)
        found: dict[LaneKey, list[StoredRun]] = {key: [] for key in keys}
        for row in rows:
            found[(row["org"], row["key"])].append(_stored(row))
        reply({key: tuple(runs) for key, runs in found.items()})

    async def claim(self, request: ClaimRequest) -> RunClaim | Busy | SetAside:
        """Take a run, or begin one.

        A run whose owner has begun a step is left to it until it ends, or its claim does.
        """
        event, now = request.event, self._clock.now()
        async with borrowed(self._pool) as connection, connection.transaction():
            row = await connection.fetchrow(_QUERIES["lock_run"], self._agent, event.id)
            if row is None:
                return await self._begin(connection, request, now) or Busy(now)
            if row["state"] in {"unknown", "diverged"} or (row["set_aside"] and not request.resuming):
                return SetAside()
            if row["in_a_step"] and row["owner"] != self.owner and row["until"] > now:
                return Busy(row["until"])
            version = row["version"]
            if version != request.version and request.migration is not None:
                await self._migrate(connection, event.id, request.migration)
                version = request.version
            until = now + timedelta(seconds=self.claim_seconds)
            arguments = (self._agent, event.id, self.owner, until, now, version)
            epoch = await connection.fetchval(_QUERIES["claim_run"], *arguments)
            rows = await connection.fetch(_QUERIES["entries"], self._agent, event.id)
        return RunClaim(epoch, version, tuple(_entry(each) for each in rows))

    async def _begin(self, connection: Any, request: ClaimRequest, now: datetime) -> RunClaim | None:
        event, record = request.event, request.record
        org, key = lane_key(record)
        epoch = await connection.fetchval(
            _QUERIES["make_run"],
            *(
                self._agent,
                event.id,
                org,
                key,
                event.subject,
                event.type,
                request.version,
                self.owner,
                now + timedelta(seconds=self.claim_seconds),
            ),
            *(
                record.partition.topic,
                record.partition.number,
                event.sequence,
                record.offset,
                now,
                uuid5(event.id, self._agent),
            ),
        )
        return None if epoch is None else RunClaim(epoch, request.version)

    async def _migrate(self, connection: Any, event_id: UUID, migration: JournalMigration) -> None:
        for row in await connection.fetch(_QUERIES["entries"], self._agent, event_id):
            new = migration.of(row["name"])
            if new is None:
                await connection.execute(_QUERIES["drop_entry"], self._agent, event_id, row["number"])
            elif new != row["name"]:
                await connection.execute(_QUERIES["rename_entry"], self._agent, event_id, row["number"], new)

    async def start_step(self, event_id: UUID, epoch: int, number: int, name: str) -> bool:
        """Note that a step begins; False where the claim is lost."""
        return await self._changed(_QUERIES["start_step"], event_id, epoch, number, name, self._clock.now())

    async def undo_step(self, event_id: UUID, epoch: int, number: int) -> None:
        """Note that a step has not happened."""
        with translated():
            await self._pool.execute(_QUERIES["undo_step"], self._agent, event_id, epoch, number)

    async def end_entry(
        self, event_id: UUID, epoch: int, entry: Entry, result: bytes, *, position: int = 0, place: int = -1
    ) -> bool:
        """Note how a step or wait ended, once; False where the claim is lost."""
        now = self._clock.now()
        about = (entry.number, entry.state, result, now, position, place)
        return await self._changed(_QUERIES["end_entry"], event_id, epoch, *about)

    async def open_wait(self, event_id: UUID, epoch: int, entry: Entry, whole: bytes) -> bool:
        """Begin a wait and set the run aside with its event; False where the claim is lost."""
        about = (entry.number, entry.name, entry.kind, list(entry.awaited), whole, entry.deadline)
        return await self._changed(_QUERIES["open_wait"], event_id, epoch, *about, self._clock.now())

    async def set_aside(
        self, event_id: UUID, epoch: int, state: str, whole: bytes, *, reason: str = "", due: datetime | None = None
    ) -> bool:
        """Set a run aside with its event; False where the claim is lost."""
        return await self._changed(_QUERIES["set_aside"], event_id, epoch, state, reason, whole, due, self._clock.now())

    async def ask_approval(
        self, event_id: UUID, epoch: int, entry: Entry, whole: bytes, approval_id: UUID, asked: Asked
    ) -> bool:
        """Ask for an approval, and set the run aside with its event; False where the claim is lost."""
        about = (entry.number, entry.name, whole, entry.deadline, self._clock.now())
        what = (approval_id, asked.person, asked.what)
        return await self._changed(_QUERIES["ask_approval"], event_id, epoch, *about, *what)

    async def approval(self, approval_id: UUID) -> StoredApproval | None:
        """Return what became of an approval."""
        with translated():
            row = await self._pool.fetchrow(_QUERIES["approval"], approval_id)
        return None if row is None else StoredApproval(row["what"], row["state"], row["decided_by"], row["decided_at"])

    async def expire_approval(self, approval_id: UUID) -> str | None:
        """Say that its time is over; return its state then."""
        with translated():
            state: str | None = await self._pool.fetchval(_QUERIES["expire_approval"], approval_id, self._clock.now())
        return state

    async def _changed(self, statement: str, event_id: UUID, epoch: int, *arguments: object) -> bool:
        with translated():
            changed = await self._pool.fetchval(statement, self._agent, event_id, epoch, *arguments)
        return changed is not None

    async def count_attempt(self, event_id: UUID, epoch: int) -> None:
        """Count a failed run."""
        with translated():
            await self._pool.execute(_QUERIES["count_attempt"], self._agent, event_id, epoch, self._clock.now())

    async def release(self, event_id: UUID, epoch: int) -> None:
        """Give a claim back."""
        with translated():
            await self._pool.execute(_QUERIES["release_run"], self._agent, event_id, epoch, self._clock.now())

    async def renew(self, event_ids: Collection[UUID]) -> None:
        """Hold the claims on runs that this process works on."""
        until = self._clock.now() + timedelta(seconds=self.claim_seconds)
        with translated():
            await self._pool.execute(_QUERIES["renew_runs"], self._agent, self.owner, list(event_ids), until)

    async def finish(self, event_id: UUID) -> None:
        """Drop a journal: its event is done."""
        with translated():
            await self._pool.execute(_QUERIES["finish_run"], self._agent, event_id)

    async def give_up(self, event_id: UUID, reason: str) -> None:
        """Keep a journal for its dead letter."""
        with translated():
            await self._pool.execute(_QUERIES["give_up_run"], self._agent, event_id, reason, self._clock.now())

    async def due(
        self, partitions: Sequence[Partition], versions: Collection[str], beside: Collection[UUID]
    ) -> tuple[DueRun, ...]:
        """Return the runs of some partitions that are to go on without an event, those due longest first.

        Args:
            partitions: ours.
            versions: whose runs this process finishes.
            beside: runs that this process works on already.
        """
        topics, numbers = [each.topic for each in partitions], [each.number for each in partitions]
        with translated():
            rows = await self._pool.fetch(
                _QUERIES["due_runs"],
                *(self._agent, topics, numbers, self._clock.now(), list(versions), list(beside), MAX_DUE),
            )
        return tuple(
            DueRun(row["event_id"], row["state"], Partition(row["topic"], row["partition"]), row["record"])
            for row in rows
        )

    async def forget(self) -> None:
        """Forget journals of dead letters that nobody has driven again for long."""
        with translated():
            await self._pool.execute(_QUERIES["forget_runs"], self._agent, self._clock.now() - KEPT)


def _stored(row: asyncpg.Record) -> StoredRun:
    return StoredRun(
        event_id=row["event_id"],
        version=row["version"],
        state=row["state"],
        attempts=row["attempts"],
        position=row["position"],
        place=row["place"],
        record=row["record"],
        awaited=tuple(row["awaited"] or ()),
    )


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(
        number=row["number"],
        name=row["name"],
        kind=row["kind"],
        state=row["state"],
        result=row["result"],
        awaited=tuple(row["awaited"]),
        deadline=row["deadline"],
    )
