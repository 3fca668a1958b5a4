"""Named SQL: each statement may be run by the roles of the processes that run it, and each is used."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from slotwire.ingest.foundation.postgres import read_queries
from slotwire.ingest.local.databases import Database

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("ingest/sql", "handlers/sql", "handlers/agents/availability_sync")
    for path in (ROOT / folder).glob("*.sql")
)

OWNER = "owner"
PROCESSES = {
    "accept.sql": ("control",),
    "actions.sql": ("control",),
    "changes.sql": ("control",),
    "agent_runs.sql": ("control",),
    "agent_settings.sql": ("control",),
    "agent_schedules.sql": ("control",),
    "approvals.sql": ("control",),
    "availability.sql": ("control",),
    "availability_sync.sql": ("agents",),
    "budget.sql": ("control",),
    "log.sql": ("relay",),
    "relay.sql": ("relay",),
    "inbox.sql": ("agents",),
    "bookings.sql": ("agents",),
    "queue.sql": ("agents",),
    "noted_runs.sql": ("agents",),
    "starts.sql": ("agents",),
    "schedules.sql": ("agents",),
    "dead_letters.sql": ("control",),
    "runs.sql": ("agents",),
    "control.sql": ("control", "serve"),
    "connections.sql": ("control",),
    "erasures.sql": ("control",),
    "holes.sql": ("control",),
    "mcp.sql": ("mcp",),
    "meetings.sql": ("control",),
    "oauth.sql": ("control",),
    "mcp_events.sql": ("mcp",),
    "observation.sql": ("control",),
    "operate.sql": ("control",),
    "quarantine.sql": ("control",),
    "restore.sql": (OWNER,),
    "serving.sql": ("serve",),
    "subscriptions.sql": ("control",),
    "unwritten.sql": ("control", "relay"),
    "vault.sql": ("control",),
}
"""Which processes run the statements of a file; `OWNER` stands for who migrates."""
OTHERS = {"serve": ("load_hook", "log_shards")}
"""What a process runs of a file that is not its own."""


def sources() -> str:
    """Return the text of every module of the product."""
    return "\n".join(
        path.read_text(encoding="utf-8") for folder in ("ingest", "handlers") for path in (ROOT / folder).rglob("*.py")
    )


@pytest.mark.parametrize("file", FILES, ids=str)
async def test_every_statement_may_be_run_by_its_process(file: Path, database: Database) -> None:
    """A statement that names a column, function or right that is not there fails here, not in production.

    To prepare a statement asks for no right; to explain it does.
    """
    queries = read_queries(".".join(("slotwire", *file.parent.parts)), file.name)
    assert queries
    for process in PROCESSES[file.name]:
        connection = await asyncpg.connect(database.owner_url if process == OWNER else database.url_of[process])
        try:
            for name, sql in queries.items():
                if name in OTHERS.get(process, queries):
                    await connection.prepare(sql)
                    await connection.execute(f"EXPLAIN (GENERIC_PLAN) {sql}")
        finally:
            await connection.close()


async def test_a_statement_of_another_process_is_refused(database: Database) -> None:
    """What the above asks is a right: the log's statement is refused to whoever may only accept."""
    sql = read_queries("slotwire.ingest.sql", "log.sql")["take_epoch"]
    connection = await asyncpg.connect(database.url_of["serve"])
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"EXPLAIN (GENERIC_PLAN) {sql}")
    finally:
        await connection.close()


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_statement_is_described_and_used(file: Path) -> None:
    """Each statement starts with a comment that says what it is for, and some module calls it by name."""
    used = set(re.findall(r"(?:\[|_call\()\s*\"([a-z0-9_]+)\"\s*[\],]", sources()))
    for name, sql in read_queries(".".join(("slotwire", *file.parent.parts)), file.name).items():
        assert sql.startswith("-- "), f"{file}: say above {name} what it is for"
        assert name in used, f"{file}: nobody uses {name}; delete it"
