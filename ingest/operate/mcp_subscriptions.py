"""Webhook subscriptions of MCP Events as operators see them: through functions that show no secret and no address."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import orjson

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated
from slotwire.ingest.operate.mcp_subscription_models import McpSubscriptionItem, State

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")


async def page(
    pool: Pool | Connection,
    now: datetime,
    *,
    only: UUID | None = None,
    org: str | None = None,
    agent: UUID | None = None,
    state: State | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 1,
) -> Sequence[McpSubscriptionItem]:
    """Read subscriptions, oldest first: one, or those of an organization, an agent, a state, after a place."""
    time, last = after or (None, None)
    wanted = (_written(only), org, agent, state, now, time, _written(last), limit)
    with translated():
        rows = await pool.fetch(_SQL["mcp_subscriptions_seen"], *wanted)
    items = []
    for row in rows:
        told = dict(row)
        told |= {"arguments": orjson.loads(told["arguments"]), "lag_seconds": 0}
        if told["waiting_since"] is not None:
            told["lag_seconds"] = max(0, int((now - told["waiting_since"]).total_seconds()))
        items.append(McpSubscriptionItem(**told))
    return items


async def read(pool: Pool, now: datetime, subscription: UUID, org: str | None) -> McpSubscriptionItem:
    """Read one.

    Raises:
        RequestRefused: there is none within reach.
    """
    found = await page(pool, now, only=subscription, org=org)
    return _found(found[0] if found else None)


async def end(pool: Pool, subscription: UUID, org: str | None) -> None:
    """End one; whoever delivers it tells its host, where that understands it.

    Raises:
        RequestRefused: there is none within reach.
    """
    with translated():
        await pool.fetchval(_SQL["end_mcp_subscription"], subscription.hex, org)


def _written(subscription: UUID | None) -> str | None:
    return None if subscription is None else subscription.hex


def _found(item: McpSubscriptionItem | None) -> McpSubscriptionItem:
    if item is None:
        raise RequestRefused(
            "there is no such subscription",
            code="not_found",
            remedy="`slotwire mcp subscriptions list` shows the subscriptions there are.",
        )
    return item
