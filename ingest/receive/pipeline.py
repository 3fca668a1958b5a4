"""The request path in one sentence: find the tenant, verify, store. The relay takes over after the commit."""

from __future__ import annotations

import asyncio

from slotwire.ingest.foundation.telemetry import SIGNATURE_AGE_SECONDS
from slotwire.ingest.log.store import DeliveryResult, Store
from slotwire.ingest.receive.hook_lookup import Tenants
from slotwire.ingest.receive.verify import ReceivedDelivery, verify


class Pipeline:
    """The way of one delivery, from its bytes to its commit."""

    def __init__(self, tenants: Tenants, store: Store, *, deadline_seconds: float) -> None:
        self._tenants = tenants
        self._store = store
        self._deadline = deadline_seconds

    async def accept(self, hook: str, delivery: ReceivedDelivery) -> DeliveryResult:
        """Take a delivery; return once it is committed.

        Raises:
            DeliveryRefused: the sender did not prove to be Calendly.
            DatabaseUnavailable: it could not be committed in time.
        """
        until = asyncio.get_running_loop().time() + self._deadline
        owner = await self._tenants.find(hook, until=until)
        tenant, keys = (owner.tenant, owner.keys) if owner else (None, ())
        verified = verify(delivery, tenant, keys, now=delivery.received_at)
        SIGNATURE_AGE_SECONDS.observe(max(0.0, (verified.received_at - verified.signed_at).total_seconds()))
        return await self._store.put(verified, until=until)
