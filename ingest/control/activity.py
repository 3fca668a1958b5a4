"""Counts webhooks: by organization and hour, and by subscription when the first and the last one came.

Each delivery is read once, and no body. Any `slotwire control` may count: places in the shards say how far it is done.
"""

from __future__ import annotations

from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

PAGE_DELIVERIES = 5_000
"""Deliveries that are counted at a time."""

_SQL = read_queries("slotwire.ingest.sql", "observation.sql")


async def count_webhooks(pool: Pool) -> None:
    """Count the webhooks that came since it was last done; after a pause of days a page at a time.

    Raises:
        DatabaseUnavailable: what was counted before stays.
    """
    with translated():
        for row in await pool.fetch(_SQL["observed_shards"]):
            while await pool.fetchval(_SQL["count_activity"], row["shard"], PAGE_DELIVERIES) == PAGE_DELIVERIES:
                pass
