"""A log of today, with ranges to make and to remove."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import asyncpg

from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.accept import AcceptRow, accept
from tests.support.public_endpoint import make_hook, settings_for

RANGE = 1_000_000_000
"""Positions of a day."""


@dataclass(frozen=True)
class RangesSetup:
    """A log, its owner's connection, and a pool as `slotwire control` has it."""

    settings: Settings
    org: str
    pool: Pool
    owner: asyncpg.Connection[asyncpg.Record]

    async def accept(self, body: bytes, now: datetime) -> int:
        """Let a body in, and return its position."""
        row = AcceptRow(uuid4(), self.org, None, "webhook", now, now, False, "", None, None, body)
        return await accept(self.owner, 0, [row], now=now, seconds=20)

    async def publish(self) -> None:
        """Move the cursor's mirror to the end, as the relay does."""
        await self.owner.execute(
            "INSERT INTO slotwire.relay_mirror (shard, log_id, position, event_id, published_at)"
            " SELECT 0, log_id, (SELECT max(position) FROM slotwire.events), NULL, now() FROM slotwire.log"
            " ON CONFLICT (shard) DO UPDATE SET position = excluded.position"
        )

    async def partitions(self, table: str) -> list[int]:
        """Return the ranges a table has."""
        rows = await self.owner.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::text::regclass",
            f"slotwire.{table}",
        )
        return sorted(int(row["name"].rpartition("_")[2]) for row in rows)


@asynccontextmanager
async def ranges_setup(database: Database) -> AsyncIterator[RangesSetup]:
    """A log of today."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    owner = await asyncpg.connect(database.owner_url)
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application="test") as pool:
        yield RangesSetup(settings, hook.organization.rpartition("/")[2], pool, owner)
    await owner.close()
