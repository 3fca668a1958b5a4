"""Routes of events that Kafka refused."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.models import EventItem, ParkedPage, ParkedQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.parked_events.list(request.who, request.query(ParkedQuery)))


async def _settle(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.parked_events.settle(request.who, request.id()))


ROUTES = (
    Route(
        "GET",
        "/v1/parked-events",
        "List events that are in the log and not in Kafka, because the broker refused them.",
        Role.READER,
        _list,
        ParkedPage,
        query=ParkedQuery,
    ),
    Route(
        "POST",
        "/v1/parked-events/{id}/settle",
        "Note that everybody who needs a parked event has been told: it is parked no more.",
        Role.OPERATOR,
        _settle,
        EventItem,
    ),
)
