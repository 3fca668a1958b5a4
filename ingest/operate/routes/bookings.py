"""Routes of bookings."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.booking_models import BookingPage, BookingQuery, Timeline, TimelineQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.bookings.list(request.who, request.query(BookingQuery)))


async def _get_timeline(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.bookings.timeline(request.who, request.query(TimelineQuery)))


ROUTES = (
    Route(
        "GET",
        "/v1/bookings",
        "List bookings, ordered by invitee URI.",
        Role.READER,
        _list,
        BookingPage,
        query=BookingQuery,
    ),
    Route(
        "GET",
        "/v1/bookings/timeline",
        "Read one booking with its deliveries, its events and their progress.",
        Role.READER,
        _get_timeline,
        Timeline,
        query=TimelineQuery,
    ),
)
