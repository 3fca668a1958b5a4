"""Subscriptions as they are stored."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.control.subscription_facts import SubscriptionRecord
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

if TYPE_CHECKING:
    import asyncpg

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_ROUNDS = read_queries("slotwire.ingest.sql", "subscriptions.sql")


async def read_page(
    pool: Pool, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int
) -> tuple[SubscriptionRecord, ...]:
    """List subscriptions of one organization, or of all (None), oldest first, ended ones too."""
    created_at, subscription_id = after or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["subscriptions_page"], org, created_at, subscription_id, limit)
    return tuple(map(subscription_of, rows))


async def read_one(pool: Pool, subscription_id: UUID, org: str | None) -> SubscriptionRecord:
    """Read one subscription of an organization, or of any (None).

    Raises:
        RequestRefused: there is no such subscription, or it belongs to another organization (`not_found`).
    """
    with translated():
        row = await pool.fetchrow(_SQL["subscription"], subscription_id, org)
    if row is None:
        raise RequestRefused(
            "there is no such subscription within reach",
            code="not_found",
            remedy="List them: slotwire subscriptions list",
        )
    return subscription_of(row)


async def confirm_deletions(pool: Pool, now: datetime) -> bool:
    """Carry deletions at Calendly out on this server from now on; return whether they were only proposed before."""
    with translated():
        changed: bool = await pool.fetchval(_ROUNDS["confirm_deletions"], now)
    return changed


def subscription_of(row: asyncpg.Record) -> SubscriptionRecord:
    """Make the record of a row."""
    values = dict(row)
    return SubscriptionRecord(**{**values, "events": tuple(values["events"])})
