"""Routes of the log: events, those that Kafka refused, and deliveries."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.models import (
    DeliveryPage,
    DeliveryQuery,
    EventDetail,
    EventItem,
    EventPage,
    EventQuery,
    ParkedPage,
    ParkedQuery,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list_events(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.events.list(request.who, request.query(EventQuery)))


async def _get_event(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.events.get(request.who, request.id()))


async def _list_parked_events(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.parked_events.list(request.who, request.query(ParkedQuery)))


async def _settle_parked_event(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.parked_events.settle(request.who, request.id()))


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
        "/v1/parked-events",
        "List events that are in the log and not in Kafka, because the broker refused them.",
        Role.READER,
        _list_parked_events,
        ParkedPage,
        query=ParkedQuery,
    ),
    Route(
        "POST",
        "/v1/parked-events/{id}/settle",
        "Note that everybody who needs a parked event has been told: it is parked no more.",
        Role.OPERATOR,
        _settle_parked_event,
        EventItem,
    ),
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
