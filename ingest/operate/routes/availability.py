"""Routes of availability."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.availability_models import AvailabilityPage, AvailabilityQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.availability.list(request.who, request.query(AvailabilityQuery)))


ROUTES = (
    Route(
        "GET",
        "/v1/availability",
        "List when users can be booked, as the agent `availability-sync` last read it at Calendly.",
        Role.READER,
        _list,
        AvailabilityPage,
        query=AvailabilityQuery,
    ),
)
