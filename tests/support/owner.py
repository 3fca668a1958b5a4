"""What a test asks the database as its owner, who may see everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from slotwire.ingest.local.databases import Database


async def owner_rows(database: Database, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Ask the database as its owner, over a connection of its own."""
    async with owner_connection(database) as connection:
        return list(await connection.fetch(query, *arguments))


@asynccontextmanager
async def owner_connection(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect as the owner while the block runs."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        yield connection
    finally:
        await connection.close()
