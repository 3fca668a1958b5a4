"""The process `slotwire control`: the management API and the chores. Asks Postgres for its readiness, never Kafka."""

from __future__ import annotations

import asyncio

from slotwire.ingest.control import connection_checks, keeping
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.health import Health
from slotwire.ingest.foundation.lifecycle import listen, until_stopped
from slotwire.ingest.foundation.readiness import postgres_problem
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.log import waiting
from slotwire.ingest.operate import idempotency
from slotwire.ingest.operate.actions import operating
from slotwire.ingest.operate.admin_api import build_app


async def run_control(settings: Settings, stop: asyncio.Event, *, health: Health, clock: Clock) -> None:
    """Serve the management API until a stop is asked for; requests that run are finished.

    Raises:
        ConfigurationError: a key or address is missing or unfit, or the port is in use.
    """
    async with operating(settings, clock, application="control") as actions:
        # Made here, so that a missing key ends the start and not the first request that needs it.
        organizations = Organizations.from_settings(
            settings, actions.pool, clock, changing=actions.organizations.of_rounds
        )
        health.add("postgres", lambda: postgres_problem(actions.pool))
        app = build_app(actions)
        async with listen(app, settings.admin.host, settings.admin.port, setting="SLOTWIRE_ADMIN__PORT") as url:
            get_logger("control").info("listening", url=url)
            await until_stopped(
                stop,
                keeping=keeping.run(organizations, settings.subscriptions),
                waiting=waiting.run(actions.pool, settings.waiting, clock),
                connections=connection_checks.run(organizations.connections, settings.connections),
                idempotency=idempotency.run(actions.pool, clock),
            )
            health.draining = True
