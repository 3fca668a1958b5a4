"""A webhook subscription of MCP Events as a row, where no process serves MCP."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.events.subscriptions import slot_of
from tests.support.mcp_events import CREATED, HOST
from tests.support.owner import owner_connection

_INSERT = """
INSERT INTO slotwire.mcp_subscriptions (id, slot, agent, user_uri, org, shard, name, arguments, url, profile, secret,
    position, version, created_at, changed_at, expires_at)
VALUES ($1, $2, $3, $4, $5, 0, $6, '{"origin":"webhook"}', 'https://hooks.example.com:8443/a-secret?of=theirs', 'draft',
        '\\x00', 0, 1, $7, $7, $8)
"""


async def write_mcp_subscription(database: Database, org: str, agent: UUID) -> UUID:
    """Have an agent of MCP subscribe, and return the subscription's id."""
    made, now = uuid4(), SystemClock().now()
    async with owner_connection(database) as owner:
        row = (made.hex, slot_of(made.hex), agent, HOST, org, CREATED, now, now + timedelta(days=1))
        await owner.execute(_INSERT, *row)
    return made
