"""Holes: times in which Calendly may have had something to tell an organization's hook, and nobody took it.

    open ──a process claims it──▶ fetching ──its fetch ended──▶ closed
      ▲                              │
      └── the fetch failed, or the hole grew since it began ──┘

Whoever notices one notes it; the fetch that fills it comes later, by itself. One fetch fills all holes of an
organization. A hole closes only when a fetch that began after it was last noticed has ended.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated

_SQL = read_queries("slotwire.ingest.sql", "holes.sql")


class HoleCause(StrEnum):
    """Why nobody may have taken what Calendly had to tell."""

    SUBSCRIPTION_DISABLED = "subscription_disabled"
    """Calendly disabled the subscription, after a day of failures."""
    SUBSCRIPTION_GONE = "subscription_gone"
    """Calendly has the subscription no more, and we did not delete it."""
    RETRYING = "retrying"
    """Calendly retried deliveries. It drops one after 24 h, though its hook stays active when others arrive."""
    REFUSED = "refused"
    """`serve` answered a delivery to a valid hook with other than 2xx."""
    NO_DATABASE = "no_database"
    """No `serve` had Postgres."""
    UNWATCHED = "unwatched"
    """The organization had no usable credential, so that nobody saw what became of its subscriptions."""
    ASKED = "asked"
    """Somebody asked for it: `slotwire reconcile`."""


async def note_hole(
    executor: Pool | Connection,
    org: str,
    *,
    cause: HoleCause,
    since: datetime,
    now: datetime,
    subscription: UUID | None,
) -> UUID:
    """Note a hole, or that one that is open goes on: it then begins at the earlier of both times.

    Args:
        executor: the database; a connection in a transaction notes it with what that changes.
        org: the last segment of the organization's URI.
        cause: why. There is one open hole per organization, cause and subscription.
        since: since when, with any allowance for clocks that differ.
        now: when it is noticed; a fetch that began before does not close it.
        subscription: our id of the subscription; None where it is none's in particular.

    Returns:
        The hole's id.

    Raises:
        DatabaseUnavailable: it is not noted.
        RowRefused: there is no such organization or subscription.
    """
    with translated():
        noted: UUID = await executor.fetchval(_SQL["note_hole"], uuid4(), org, cause.value, subscription, since, now)
    return noted
