"""Whose hook is this? The address gives the tenant and the signing keys, before anything is parsed.

The payload names no organization (docs/reference/calendly.md, "Delivery"), so the address must. A forged hook is
recognized without a look-up, and a failed look-up never counts as "unknown".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from uuid import UUID

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, borrowed
from slotwire.ingest.keys.hooks import HookAddresses, HookId
from slotwire.ingest.keys.signing_keys import HookRecord, load_keys
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.receive.verify import HookTenant

FRESH_SECONDS = 30.0
"""How long a subscription is used before Postgres is asked again. A key that is revoked meanwhile accepts nothing: the
door asks for the key again, in the commit itself."""
MAX_CACHED = 10_000
"""Subscriptions in memory; the one that was loaded longest ago is dropped first."""
GRACE = timedelta(hours=48)
"""How long a hook stays valid after its subscription has ended. Calendly retries for 24 h."""


@dataclass(frozen=True, slots=True)
class HookOwner:
    """The tenant of a hook, and the keys that sign its deliveries, by id."""

    tenant: HookTenant
    keys: Mapping[UUID, bytes] = field(repr=False)


@dataclass(slots=True)
class _Cached:
    record: HookRecord
    owner: HookOwner
    until: float


class Tenants:
    """Finds the tenant of a hook. It caches hooks that exist, so that strangers cannot fill the cache with others."""

    def __init__(
        self,
        pool: Pool,
        addresses: HookAddresses,
        vault: Vault,
        clock: Clock,
        *,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        self._pool = pool
        self._addresses = addresses
        self._vault = vault
        self._clock = clock
        self._timer = timer
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}

    def is_ours(self, hook: str) -> bool:
        """Return whether a hook was made with one of our keys: arithmetic, no look-up. It may be nobody's."""
        return self._addresses.is_ours(hook)

    async def find(self, hook: str, *, until: float) -> HookOwner | None:
        """Return the owner of a hook; None if nobody has it.

        Args:
            hook: the last segment of the address; one that is not ours belongs to nobody.
            until: the event loop's time by which Postgres must have answered, if it has to be asked.

        Raises:
            DatabaseUnavailable: it is not cached, and Postgres does not answer.
        """
        cached = self._cache.get(hook)
        if cached is None or cached.until <= self._timer():
            hook_id = self._addresses.read(hook)
            cached = await self._ask(hook, hook_id, until) if hook_id else None
            if cached is None:
                return None
        ended_at = cached.record.ended_at
        if ended_at is not None and self._clock.now() > ended_at + GRACE:
            return None
        return cached.owner

    def forget(self, hook: str) -> None:
        """Ask Postgres again at the next delivery: what is cached of a hook was found to be no longer true."""
        self._cache.pop(hook, None)

    async def _ask(self, hook: str, hook_id: HookId, until: float) -> _Cached | None:
        """Load a hook once, no matter how many deliveries wait for it."""
        lock = self._asking.setdefault(hook, asyncio.Lock())
        try:
            async with asyncio.timeout_at(until), lock:
                cached = self._cache.get(hook)
                if cached is not None and cached.until > self._timer():
                    return cached
                return self._remember(hook, await self._load(hook_id))
        except (TimeoutError, DatabaseUnavailable) as problem:
            known = self._cache.get(hook)
            if known is not None:
                return known  # stale, but it was true; the commit will say that Postgres is away
            if isinstance(problem, DatabaseUnavailable):
                raise
            raise DatabaseUnavailable("the hook could not be looked up in time", reason="deadline") from problem
        finally:
            if not lock.locked():
                self._asking.pop(hook, None)

    async def _load(self, hook_id: HookId) -> HookRecord | None:
        async with borrowed(self._pool) as connection:
            return await load_keys(connection, self._vault, hook_id)

    def _remember(self, hook: str, record: HookRecord | None) -> _Cached | None:
        if record is None:
            self._cache.pop(hook, None)
            return None
        tenant = HookTenant(record.org, record.shard, record.subscription_id, record.max_age)
        cached = _Cached(record, HookOwner(tenant, record.keys), self._timer() + FRESH_SECONDS)
        self._cache[hook] = cached
        self._cache.move_to_end(hook)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return cached
