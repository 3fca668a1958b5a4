"""Routes of agents' scheduled work."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse
from slotwire.ingest.operate.schedule_models import SchedulePage, ScheduleQuery


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.schedules.list(request.who, request.query(ScheduleQuery)))


ROUTES = (
    Route(
        "GET",
        "/v1/schedules",
        "List the scheduled work of agents for each organization: what is due next, and what was missed.",
        Role.READER,
        _list,
        SchedulePage,
        query=ScheduleQuery,
    ),
)
