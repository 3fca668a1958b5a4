"""Routes of the log: events and deliveries."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.models import DeliveryPage, DeliveryQuery, EventDetail, EventPage, EventQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Answer, Call, Route


async def _list_events(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.events.list(call.who, call.query(EventQuery)))


async def _get_event(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.events.get(call.who, call.id()))


async def _list_deliveries(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.deliveries.list(call.who, call.query(DeliveryQuery)))


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
