"""Named SQL: each statement is understood by a real server for the runtime role, and each is used."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from slotwire.ingest.foundation.postgres import read_queries
from slotwire.ingest.local.databases import Database

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT) for folder in ("ingest/sql", "handlers") for path in (ROOT / folder).glob("*.sql")
)


def sources() -> str:
    """Return the text of every module of the product."""
    return "\n".join(
        path.read_text(encoding="utf-8") for folder in ("ingest", "handlers") for path in (ROOT / folder).rglob("*.py")
    )


@pytest.mark.parametrize("file", FILES, ids=str)
async def test_every_statement_prepares_for_the_runtime_role(file: Path, database: Database) -> None:
    """A statement that names a column, function or right that is not there fails here, not in production."""
    queries = read_queries(".".join(("slotwire", *file.parent.parts)), file.name)
    assert queries
    connection = await asyncpg.connect(database.runtime_url)
    try:
        for name, sql in queries.items():
            prepared = await connection.prepare(sql)
            assert prepared.get_query() == sql, name
    finally:
        await connection.close()


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_statement_is_described_and_used(file: Path) -> None:
    """Each statement starts with a comment that says what it is for, and some module calls it by name."""
    used = set(re.findall(r"(?:\[|_call\()\s*\"([a-z0-9_]+)\"\s*[\],]", sources()))
    for name, sql in read_queries(".".join(("slotwire", *file.parent.parts)), file.name).items():
        assert sql.startswith("-- "), f"{file}: say above {name} what it is for"
        assert name in used, f"{file}: nobody uses {name}; delete it"
