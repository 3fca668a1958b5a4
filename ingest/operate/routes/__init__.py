"""The management API's routes, as one table: the application, its document and its tests are made from it.

One file a noun, as the verbs are.
"""

from __future__ import annotations

from slotwire.ingest.operate.routes import (
    audit,
    bookings,
    connections,
    keys,
    log,
    organizations,
    quarantine,
    subscriptions,
)
from slotwire.ingest.operate.routes.base import Route

ROUTES: tuple[Route, ...] = (
    *log.ROUTES,
    *bookings.ROUTES,
    *quarantine.ROUTES,
    *connections.ROUTES,
    *organizations.ROUTES,
    *subscriptions.ROUTES,
    *keys.ROUTES,
    *audit.ROUTES,
)
