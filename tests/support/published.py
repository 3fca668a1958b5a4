"""A log that is published as far as it is written, where no relay runs."""

from __future__ import annotations

from datetime import datetime

from slotwire.ingest.foundation.postgres import Connection
from tests.support.mcp_events import MIRROR
from tests.support.relay_setup import LoggedEvent, append


async def publish(owner: Connection, now: datetime, *events: LoggedEvent) -> None:
    """Append events, and say that they are published."""
    await append(owner, events)
    position = await owner.fetchval("SELECT max(position) FROM slotwire.events")
    await owner.execute(MIRROR, position, now)
