"""The management API's routes as one table, from which the application, its OpenAPI document and its tests are made.

One file per resource, as in `actions/`; events and deliveries are in `log`.
"""

from __future__ import annotations

from slotwire.ingest.operate.routes import (
    actions,
    agent_settings,
    approvals,
    audit,
    availability,
    bookings,
    connect_links,
    connections,
    dead_letters,
    erasures,
    keys,
    log,
    mcp_agents,
    mcp_subscriptions,
    organizations,
    parked_events,
    quarantine,
    reconciliations,
    runs,
    schedules,
    signing_keys,
    subscriptions,
    uses,
)
from slotwire.ingest.operate.routes.base import Route

ROUTES: tuple[Route, ...] = (
    *log.ROUTES,
    *parked_events.ROUTES,
    *bookings.ROUTES,
    *availability.ROUTES,
    *quarantine.ROUTES,
    *dead_letters.ROUTES,
    *connections.ROUTES,
    *connect_links.ROUTES,
    *organizations.ROUTES,
    *subscriptions.ROUTES,
    *reconciliations.ROUTES,
    *erasures.ROUTES,
    *actions.ROUTES,
    *signing_keys.ROUTES,
    *runs.ROUTES,
    *schedules.ROUTES,
    *approvals.ROUTES,
    *agent_settings.ROUTES,
    *mcp_agents.ROUTES,
    *mcp_subscriptions.ROUTES,
    *keys.ROUTES,
    *audit.ROUTES,
    *uses.ROUTES,
)
