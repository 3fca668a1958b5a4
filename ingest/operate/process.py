"""Composition root of what operators use: the process `slotwire control`, and the pool on which one command acts.

`slotwire control` asks Postgres for its readiness, and never Kafka.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.transport import open_calendly
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import FOR_LISTS, create_pool
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.key_lookup import KeyLookup

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from typing import Any

    from slotwire.ingest.control.oauth_flow import ConnectFlow
    from slotwire.ingest.control.oauth_listener import PublicPages
    from slotwire.ingest.foundation.health import Health
    from slotwire.ingest.foundation.postgres import Pool
    from slotwire.ingest.foundation.settings import CalendlySettings, Settings

MakeBudgets: TypeAlias = "Callable[[Pool, Clock, CalendlySettings], Budgets]"


@asynccontextmanager
async def operating(
    settings: Settings, clock: Clock, *, application: str, budgets: MakeBudgets = Budgets
) -> AsyncIterator[Actions]:
    """Yield the operations on the database of the settings; its pool and connections to Calendly close with the block.

    Every command opens its own pool here; it connects with the first query. Keys of the management API are looked up on
    a connection of their own, so that requests that run do not hold up the next caller.

    Args:
        settings: the database, and what operations need: keys of the vault, Calendly's address.
        clock: gives the time of each change.
        application: what Postgres shows as the connections' name.
        budgets: makes the budgets of calls to Calendly.

    Raises:
        ConfigurationError: the database's address is missing or cannot be read.
    """
    dsn = settings.database_url.get_secret_value()
    one = settings.database.model_copy(update={"pool_size": 1})
    async with (
        create_pool(dsn, settings.database, application=application, planner=FOR_LISTS) as pool,
        create_pool(dsn, one, application=f"{application}-keys") as keys,
        open_calendly(settings.calendly, budgets(pool, clock, settings.calendly)) as calendly,
    ):
        yield Actions.on(pool, KeyLookup(keys, clock), settings, clock, calendly)


async def run_control(settings: Settings, stop: asyncio.Event, *, health: Health, clock: Clock) -> None:
    """Serve the management API and do the chores until a stop is asked for. Requests that run are finished.

    Raises:
        ConfigurationError: a key or address is missing or unfit, or the port is in use.
    """
    # Here, because aiohttp takes 0.2 s to import and every command imports this module.
    from slotwire.ingest.control import (
        app_keys,
        backfill,
        backfill_rounds,
        connection_checks,
        hole_rounds,
        oauth_listener,
        oauth_refresh,
        rounds,
    )
    from slotwire.ingest.control.actions import action_rounds
    from slotwire.ingest.control.actions.perform import Performer
    from slotwire.ingest.control.changes import sweep_rounds
    from slotwire.ingest.control.oauth_flow import ConnectFlow
    from slotwire.ingest.control.organizations import Organizations
    from slotwire.ingest.foundation.lifecycle import until_stopped
    from slotwire.ingest.foundation.listener import ADMIN, listen, within_open_files
    from slotwire.ingest.foundation.postgres_readiness import postgres_problem
    from slotwire.ingest.foundation.telemetry import get_logger
    from slotwire.ingest.operate import audit
    from slotwire.ingest.operate.admin_api import build_app

    async with operating(settings, clock, application="control") as actions:
        # Made here, so that a missing key ends the start and not the first request that needs it.
        organizations = Organizations.from_settings(
            settings, actions.pool, clock, actions.calendly, changing=actions.organizations.of_rounds
        )
        patient = Organizations.from_settings(
            settings, actions.pool, clock, actions.calendly, retries=backfill.BACKGROUND_RETRIES
        )
        performer = Performer.from_settings(settings, actions.pool, clock, actions.calendly)
        health.add("postgres", lambda: postgres_problem(actions.pool))
        app = build_app(actions)
        limits = within_open_files(ADMIN)
        flow = ConnectFlow.from_settings(settings, actions.pool, clock, organizations, actions.connect_links.consented)
        connections = organizations.connections
        async with (
            listen(app, settings.admin.host, settings.admin.port, setting="SLOTWIRE_ADMIN__PORT", limits=limits) as url,
            oauth_listener.listening(_pages(actions, settings, flow)) as oauth_url,
        ):
            get_logger("control").info("listening", url=url, oauth_url=oauth_url)
            await until_stopped(
                stop,
                subscriptions=rounds.run(organizations, settings.subscriptions),
                backfills=backfill_rounds.run(patient, settings.subscriptions),
                holes=hole_rounds.run(patient, settings.reconcile),
                changes=sweep_rounds.run(patient, settings.changes),
                actions=action_rounds.run(performer, settings.actions.interval_seconds),
                connections=connection_checks.run(connections, settings.connections),
                refreshes=oauth_refresh.run(connections.oauth),
                app_keys=app_keys.run(actions.pool, connections.vault, settings.oauth, clock),
                late_grants=oauth_listener.run(flow),
                audit=audit.run(actions.pool, clock, actions.refusals),
                **_database_chores(actions.pool, clock, settings),
            )
            health.draining = True
        await audit.write_counts_or_log(actions.pool, clock, actions.refusals)


def _pages(actions: Actions, settings: Settings, flow: ConnectFlow | None) -> PublicPages:
    """Put together what the public listener shows."""
    from slotwire.ingest.control.approval_listener import ApprovalDesk
    from slotwire.ingest.control.oauth_listener import PublicPages

    links, deciding = actions.approvals.links(), actions.approvals.decided_by_link
    desk = ApprovalDesk(links, deciding, settings.oauth.integrator) if links.has_pages else None
    return PublicPages(settings.oauth, flow, desk)


def _database_chores(pool: Pool, clock: Clock, settings: Settings) -> dict[str, Coroutine[Any, Any, None]]:
    """Return the chores that ask Postgres alone, by their names."""
    from slotwire.ingest.control import erasure, idle_budgets, meeting_rounds, ranges, retention
    from slotwire.ingest.control.observation import Observer
    from slotwire.ingest.operate import idempotency

    return {
        "meetings": meeting_rounds.run(pool, clock, settings.meetings),
        "ranges": ranges.run(pool, clock),
        "retention": retention.run(pool, clock, settings.retention),
        "erasures": erasure.run(pool, clock),
        "idempotency": idempotency.run(pool, clock),
        "budgets": idle_budgets.run(pool, clock),
        "observation": Observer(pool, clock, settings.metrics, settings.retention, settings.changes).run(),
    }
