"""Each operator verb once, with who may do it: the management API and the command line both come here.

One file a noun; `actions.quarantine.retry(who, id)` reads as it is said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.operate.actions.audit import AuditActions
from slotwire.ingest.operate.actions.bookings import BookingActions
from slotwire.ingest.operate.actions.connections import ConnectionActions
from slotwire.ingest.operate.actions.deliveries import DeliveryActions
from slotwire.ingest.operate.actions.events import EventActions
from slotwire.ingest.operate.actions.keys import KeyActions
from slotwire.ingest.operate.actions.organizations import OrganizationActions
from slotwire.ingest.operate.actions.quarantine import QuarantineActions
from slotwire.ingest.operate.actions.subscriptions import SubscriptionActions
from slotwire.ingest.operate.idempotency import IdempotentResponses

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings


@dataclass(frozen=True, slots=True)
class Actions:
    """The verbs by noun, on one database. Made by `operating`."""

    pool: Pool
    clock: Clock
    events: EventActions
    deliveries: DeliveryActions
    bookings: BookingActions
    quarantine: QuarantineActions
    connections: ConnectionActions
    organizations: OrganizationActions
    subscriptions: SubscriptionActions
    keys: KeyActions
    audit: AuditActions
    idempotency: IdempotentResponses

    @classmethod
    def on(cls, pool: Pool, settings: Settings, clock: Clock) -> Self:
        """Offer the verbs on a pool."""
        base = (pool, settings, clock)
        return cls(
            pool,
            clock,
            EventActions(*base),
            DeliveryActions(*base),
            BookingActions(*base),
            QuarantineActions(*base),
            ConnectionActions(*base),
            OrganizationActions(*base),
            SubscriptionActions(*base),
            KeyActions(*base),
            AuditActions(*base),
            IdempotentResponses(*base),
        )


@asynccontextmanager
async def operating(settings: Settings, clock: Clock, *, application: str) -> AsyncIterator[Actions]:
    """Offer the verbs on the database of the settings while the block runs. Nothing is asked of it yet.

    Raises:
        ConfigurationError: the database's address is missing or cannot be read.
    """
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application=application) as pool:
        yield Actions.on(pool, settings, clock)
