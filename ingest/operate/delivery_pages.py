"""Pages of deliveries, newest first. Each page starts before the last item, so nothing is skipped or repeated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.ingest.operate.cursors import LogPlace
from slotwire.ingest.operate.models import DeliveryItem, Outcome

if TYPE_CHECKING:
    import asyncpg

UNWRITTEN_SEEN = 10_000
"""Deliveries of a shard, the newest that are accepted and not yet written, that a list of such looks at."""

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_OUTCOMES = [outcome.value for outcome in DeliveryOutcome]


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to read.

    Attributes:
        org: of one organization; None for all.
        outcome: with one outcome.
        event_id: of one event.
    """

    org: str | None = None
    outcome: Outcome | None = None
    event_id: UUID | None = None


async def read_page(pool: Pool, place: LogPlace, only: DeliveryFilter, *, limit: int) -> Sequence[asyncpg.Record]:
    """Read rows of deliveries before a place, newest first; `delivery_item` shows one.

    Within a shard the order is that of positions, even where a later one tells an earlier time, so that no page skips
    one. Of what is accepted and not yet written only the newest `UNWRITTEN_SEEN` of a shard are looked at, so that a
    long backlog does not make its list slow.
    """
    with translated():
        if only.event_id is not None:
            rows = await _of_event(pool, place, only, limit)
        elif only.outcome == "accepted":
            rows = await _unwritten(pool, place, only.org, limit)
        elif only.org is not None:
            rows = await _of_org(pool, place, only, limit)
        elif only.outcome is not None:
            rows = await pool.fetch(_SQL["deliveries_with_outcome"], *_shards(place), limit, only.outcome)
        else:
            rows = await pool.fetch(_SQL["deliveries_page"], *_shards(place), limit)
    by_shard: dict[int, dict[int, asyncpg.Record]] = defaultdict(dict)
    for row in rows:
        by_shard[row["shard"]][row["position"]] = row
    in_order = [[found[position] for position in sorted(found, reverse=True)] for found in by_shard.values()]
    return list(islice(merge(*in_order, key=itemgetter("received_at"), reverse=True), limit))


def place_before(place: LogPlace, rows: Sequence[asyncpg.Record], only: DeliveryFilter) -> LogPlace:
    """Return the place before deliveries that were read before a place.

    An organization, and so an event, is in one shard, so the smallest position of the place counts.
    """
    reached = {**place, **{row["shard"]: row["position"] for row in rows}}
    if only.org is None and only.event_id is None:
        return reached
    return dict.fromkeys(reached, min(reached.values()))


def delivery_item(row: asyncpg.Record) -> DeliveryItem:
    """Show a delivery, without its body."""
    return DeliveryItem(
        id=row["id"],
        organization=row["org"],
        subscription_id=row["subscription_id"],
        origin=row["origin"],
        received_at=row["received_at"],
        signed_at=row["signed_at"],
        outcome=row["outcome"],
        event_id=row["event_id"],
        event_name=row["event_name"],
        body_bytes=row["bytes"],
    )


async def _of_event(pool: Pool, place: LogPlace, only: DeliveryFilter, limit: int) -> Sequence[asyncpg.Record]:
    if only.outcome == "accepted":
        return []  # what is not yet written has no event
    position = min(place.values())
    return await pool.fetch(_SQL["deliveries_of_event"], only.event_id, position, limit, only.org, only.outcome)


async def _of_org(pool: Pool, place: LogPlace, only: DeliveryFilter, limit: int) -> Sequence[asyncpg.Record]:
    outcomes = _OUTCOMES if only.outcome is None else [only.outcome]
    unwritten = await _unwritten(pool, place, only.org, limit) if only.outcome is None else []
    # Read after the others: what is written between the two is then in both, and not in neither.
    written = await pool.fetch(_SQL["deliveries_of_org"], only.org, min(place.values()), limit, outcomes)
    return [*unwritten, *written]


async def _unwritten(pool: Pool, place: LogPlace, org: str | None, limit: int) -> Sequence[asyncpg.Record]:
    return await pool.fetch(_SQL["deliveries_unwritten"], *_shards(place), limit, org, UNWRITTEN_SEEN)


def _shards(place: LogPlace) -> tuple[list[int], list[int]]:
    return list(place), list(place.values())
