"""What a test asks the database as its owner, who may see everything."""

from __future__ import annotations

import asyncpg

from slotwire.ingest.local.databases import Database


async def owner_rows(database: Database, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Ask the database as its owner, over a connection of its own."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()
