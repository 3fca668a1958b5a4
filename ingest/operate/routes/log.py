"""Routes of the log: events and deliveries."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.models import DeliveryPage, DeliveryQuery, EventDetail, EventPage, EventQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list_events(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.events.list(request.who, request.query(EventQuery)))


async def _get_event(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.events.get(request.who, request.id()))


async def _list_deliveries(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.deliveries.list(request.who, request.query(DeliveryQuery)))


ROUTES = (
    Route(
        "GET",
        "/v1/events",
        "List events of the log, oldest first.",
        Role.READER,
        _list_events,
        EventPage,
        query=EventQuery,
    ),
    Route("GET", "/v1/events/{id}", "Read one event with its data.", Role.READER, _get_event, EventDetail),
    Route(
        "GET",
        "/v1/deliveries",
        "List deliveries from Calendly, newest first.",
        Role.READER,
        _list_deliveries,
        DeliveryPage,
        query=DeliveryQuery,
    ),
)
