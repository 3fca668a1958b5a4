"""The doctor's check of availability: whether it is kept, how old it is, and whether the topic has all of it."""

from __future__ import annotations

from datetime import timedelta

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.operate.findings import Finding, ok

WARNING = timedelta(hours=2)
"""Availability that was not read again for so long is not kept any more: it is read every hour at the latest."""

_SQL = read_queries("slotwire.ingest.sql", "availability.sql")


async def availability(connection: Connection, clock: Clock) -> Finding:
    """Say how much availability is kept, how old it is, and whether the topic has all of it."""
    with translated():
        row = await connection.fetchrow(_SQL["availability_age"])
    if row is None:  # pragma: no cover - an aggregate gives one row
        raise AssertionError
    if not row["offers"]:
        return ok("availability", "none is kept")
    said = f"of {row['offers']} users and event types, {row['unread']} not read yet, {row['unpublished']} not published"
    said += f"; the oldest was read at {row['oldest']:%Y-%m-%d %H:%M}Z" if row["oldest"] is not None else ""
    if row["oldest"] is None or clock.now() - row["oldest"] < WARNING:
        return ok("availability", said)
    return Finding(
        check="availability",
        state="warning",
        message=said,
        remedy="Does the agent availability-sync run? docs/runbooks/availability-stale.md says what else may be wrong.",
    )
