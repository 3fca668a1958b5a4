"""The route of the audit of credential uses."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse
from slotwire.ingest.operate.uses_models import UsesPage, UsesQuery


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.uses.list(request.who, request.query(UsesQuery)))


ROUTES = (
    Route(
        "GET",
        "/v1/audit/uses",
        "List what was done at Calendly with customers' credentials, newest first: as which user, on whose behalf.",
        Role.ADMIN,
        _list,
        UsesPage,
        query=UsesQuery,
    ),
)
