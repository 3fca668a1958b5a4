"""The table of what is known, as the one writer of an organization: each change names the epoch that it was given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from slotwire.handlers.agents.availability_sync.reading import Known, Offer
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.schemas.availability import BusyTime, OpenSlot

HOLD = timedelta(minutes=5)
"""How long an organization belongs to a writer that writes nothing: longer than the calls for one user take."""

_SQL = read_queries("slotwire.handlers.agents.availability_sync", "availability_sync.sql")


class TakenOver(Exception):
    """Another writer has the organization by now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Written:
    """A row to write.

    Attributes:
        known: what is known now.
        changed: whether the topic is to be told.
    """

    known: Known
    changed: bool

    def columns(self) -> dict[str, Any]:
        """Write it as JSON."""
        known = self.known
        return {
            "user_uri": known.offer.user,
            "event_type": known.offer.event_type,
            "ends": known.ends,
            "slots": [each.model_dump(mode="json") for each in known.slots],
            "busy": [each.model_dump(mode="json") for each in known.busy],
            "read_at": known.read_at,
            "gone": known.gone,
            "changed": self.changed,
        }


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A row whose last version the topic does not have."""

    known: Known
    version: int


@dataclass(frozen=True, slots=True)
class AvailabilityWriter:
    """The one writer of an organization.

    Attributes:
        org: the organization.
        epoch: what it was given; a later writer has a higher one.
    """

    pool: Pool
    clock: Clock
    org: str
    epoch: int

    async def listing(self) -> tuple[datetime | None, bool]:
        """Read when the event types were last listed, and whether they may be others by now."""
        with translated():
            row = await self.pool.fetchrow(_SQL["listing"], self.org)
        return (None, True) if row is None else (row["listed_at"], row["list_due_since"] is not None)

    async def known(self) -> tuple[Known, ...]:
        """Read all rows."""
        return await known_of(self.pool, self.org)

    async def write(self, rows: Iterable[Written], *, begun: datetime, listed: bool = False) -> None:
        """Write rows, all or none.

        Args:
            rows: with what is known now.
            begun: when reading began: what was noticed since is still due.
            listed: whether the event types were listed, and these rows are what came of it.

        Raises:
            TakenOver: by another writer.
            DatabaseUnavailable: they may be written or not.
        """
        told = orjson.dumps([each.columns() for each in rows]).decode()
        until = self.clock.now() + HOLD
        with translated():
            mine = await self.pool.fetchval(_SQL["write"], self.org, self.epoch, begun, listed, told, until)
        if not mine:
            raise TakenOver

    async def unpublished(self, limit: int) -> tuple[Unpublished, ...]:
        """Read what the topic does not have; nothing if another writer has taken over."""
        with translated():
            rows = await self.pool.fetch(_SQL["unpublished"], self.org, self.epoch, limit)
        return tuple(Unpublished(_known(row), row["version"]) for row in rows)

    async def published(self, rows: Sequence[Unpublished]) -> None:
        """Note what the topic has.

        Raises:
            TakenOver: by another writer, who publishes it again.
        """
        told = [
            {"user_uri": each.known.offer.user, "event_type": each.known.offer.event_type, "version": each.version}
            for each in rows
        ]
        with translated():
            mine = await self.pool.fetchval(_SQL["published"], self.org, self.epoch, orjson.dumps(told).decode())
        if not mine:
            raise TakenOver

    async def leave(self) -> None:
        """Let others write."""
        with translated():
            await self.pool.execute(_SQL["leave"], self.org, self.epoch)


async def hold(pool: Pool, clock: Clock, org: str, *, writer: str) -> AvailabilityWriter | None:
    """Become an organization's writer; None where another one is."""
    now = clock.now()
    with translated():
        epoch = await pool.fetchval(_SQL["hold"], org, writer, now, now + HOLD)
    return None if epoch is None else AvailabilityWriter(pool, clock, org, epoch)


async def known_of(pool: Pool, org: str) -> tuple[Known, ...]:
    """Read all rows of an organization."""
    with translated():
        rows = await pool.fetch(_SQL["known"], org)
    return tuple(map(_known, rows))


async def note_all_changed(pool: Pool, clock: Clock, org: str) -> None:
    """Note that everything of an organization may have changed."""
    with translated():
        await pool.execute(changed_query(), org, None, None, clock.now())


def changed_query() -> str:
    """Return the statement that says that something may have changed: organization, user, event type and time."""
    return _SQL["changed"]


def _known(row: Any) -> Known:
    return Known(
        Offer(row["user_uri"], row["event_type"]),
        row["ends"],
        tuple(OpenSlot.model_validate(each) for each in orjson.loads(row["slots"])),
        tuple(BusyTime.model_validate(each) for each in orjson.loads(row["busy"])),
        row["read_at"],
        row.get("due_since"),
        row["gone"],
    )
