"""Rows that go to Postgres by their composite type have its fields, in its order, of its types."""

from __future__ import annotations

from datetime import datetime
from types import NoneType
from typing import Any, get_args, get_type_hints
from uuid import UUID

import asyncpg
import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.batch import EventRow, ResultRow
from slotwire.ingest.receive.accept import AcceptRow

TYPES = {
    UUID: "uuid",
    str: "text",
    datetime: "timestamp with time zone",
    bool: "boolean",
    int: "bigint",
    bytes: "bytea",
}
FIELDS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_attribute AS a JOIN pg_type AS t ON t.typrelid = a.attrelid
WHERE t.oid = $1::text::regtype AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
ROWS: dict[str, type[Any]] = {
    "slotwire.new_event": EventRow,
    "slotwire.new_result": ResultRow,
    "slotwire.accepting": AcceptRow,
}


def postgres_type(annotation: Any) -> str:
    """Return how Postgres calls a field's type; null is possible in each."""
    inner = [each for each in get_args(annotation) if each is not NoneType]
    return TYPES[inner[0] if inner else annotation]


@pytest.mark.parametrize("name", ROWS)
async def test_a_row_is_its_composite_type(name: str, database: Database) -> None:
    """Fields go by position, so one that is missing, moved or of another type would be written into its neighbour."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        fields = [(row["name"], row["type"]) for row in await connection.fetch(FIELDS, name)]
    finally:
        await connection.close()
    hints = get_type_hints(ROWS[name])
    assert fields == [(field, postgres_type(hints[field])) for field in ROWS[name]._fields]
