"""The door in a test's hand: organizations, deliveries let in without a request, and SQL functions made naive."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.receive.accept import AcceptRow, accept

SECONDS = 30.0
"""How long a commit may take."""


async def add_organization(owner: Connection, org: str = "A", *, shard: int = 0) -> None:
    """Make an organization known."""
    await owner.execute(
        "INSERT INTO slotwire.organizations (org, uri, shard, created_at) VALUES ($1, $2, $3, $4)",
        *(org, f"https://api.calendly.com/organizations/{org}", shard, datetime.now(UTC)),
    )


async def let_in(
    connection: Connection, *bodies: bytes, org: str = "A", origin: str = "webhook", shard: int = 0
) -> list[int]:
    """Accept bodies in one commit; return their positions."""
    now = datetime.now(UTC)
    rows = [AcceptRow(uuid4(), org, None, origin, now, now, False, "", None, None, body) for body in bodies]
    last = await accept(connection, shard, rows, now=now, seconds=SECONDS)
    return list(range(last - len(bodies) + 1, last + 1))


async def plant(owner: Connection, function: str, *changes: tuple[str, str]) -> None:
    """Make a function of the schema naive, in the test's database: put other text in place of its own."""
    source: str = await owner.fetchval("SELECT pg_get_functiondef($1::regproc)", f"slotwire.{function}")
    for old, new in changes:
        assert source.count(old) == 1, (function, old)
        source = source.replace(old, new)
    await owner.execute(source)
