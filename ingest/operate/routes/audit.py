"""The route of the audit."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.audit_models import AuditPage, AuditQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.audit.list(request.who, request.query(AuditQuery)))


ROUTES = (
    Route(
        "GET",
        "/v1/audit",
        "List who changed what, newest first, refused attempts included.",
        Role.ADMIN,
        _list,
        AuditPage,
        query=AuditQuery,
    ),
)
