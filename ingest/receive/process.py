"""Composition root of `slotwire serve`: what it opens, in which order, and how it ends.

Each process has one root, the `process.py` of its folder (`receive`, `relay`, `operate`, `handlers`), and only a root
opens a pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from slotwire.ingest.foundation.clock import Clock, clock_of
from slotwire.ingest.foundation.health import Health, serving_health
from slotwire.ingest.foundation.listener import within_open_files
from slotwire.ingest.foundation.open_connections import OpenConnections
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.postgres_readiness import commits_problem, postgres_problem
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import (
    LISTENER_CONNECTIONS,
    LISTENER_CONNECTIONS_LIMIT,
    UNWRITTEN_LIMIT_BYTES,
    get_logger,
)
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.receive.endpoint import Receiver
from slotwire.ingest.receive.group_commit import GroupCommit
from slotwire.ingest.receive.hook_lookup import Tenants
from slotwire.ingest.receive.hook_troubles import HookTroubles
from slotwire.ingest.receive.listener import limits_of, listening


async def serve(settings: Settings, stop: asyncio.Event, *, clock: Clock | None = None) -> None:
    """Run `slotwire serve` until `stop` is set.

    Postgres may be away at the start: deliveries are then answered 503, and the process is not ready.

    Raises:
        ConfigurationError: a key or address is missing, a port is in use, or too few files may be open.
    """
    health = Health("serve")
    async with (
        serving_health(health, settings.health) as health_url,
        serving_hooks(settings, health, clock or clock_of(settings)) as url,
    ):
        get_logger("serve").info("listening", url=url, health_url=health_url)
        await stop.wait()
        health.draining = True


@asynccontextmanager
async def serving_hooks(settings: Settings, health: Health, clock: Clock) -> AsyncIterator[str]:
    """Serve the public listener while the block runs; yields its address. Ends with a drain."""
    vault = Vault.from_settings(settings.vault)
    addresses = HookAddresses.from_settings(settings)
    dsn = settings.database_url.get_secret_value()
    connections = OpenConnections(within_open_files(limits_of(settings.http)))
    LISTENER_CONNECTIONS.set_function(lambda: len(connections))
    LISTENER_CONNECTIONS_LIMIT.set(connections.limits.max_connections)
    UNWRITTEN_LIMIT_BYTES.set(settings.http.max_unwritten_bytes)
    async with create_pool(dsn, settings.database, application="serve") as pool:
        health.add("postgres", lambda: postgres_problem(pool))
        health.add("commits", lambda: commits_problem(pool))
        async with asyncio.TaskGroup() as side:
            door = GroupCommit(settings, clock, side)
            tenants = Tenants(pool, addresses, vault, clock)
            ratio = settings.log.accepted_ratio
            troubles = HookTroubles(pool, addresses, clock)
            telling = side.create_task(troubles.run(), name="hook troubles")
            receiver = Receiver(
                *(tenants, door, settings.http, clock, connections), troubled=troubles.note, accepted_ratio=ratio
            )
            async with listening(receiver.answer, settings.http, connections) as url:
                yield url
            telling.cancel()
            await troubles.leave()
            door.close()
