"""Routes of the quarantine."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.quarantine_models import (
    DiscardRequest,
    QuarantineDetail,
    QuarantineItem,
    QuarantinePage,
    QuarantineQuery,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_QUARANTINE = "/v1/quarantine"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.quarantine.list(request.who, request.query(QuarantineQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.quarantine.get(request.who, request.id()))


async def _retry(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.quarantine.retry(request.who, request.id()))


async def _discard(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = DiscardRequest.model_validate_json(request.body)
    return RouteResponse(await actions.quarantine.discard(request.who, request.id(), body))


ROUTES = (
    Route(
        "GET",
        _QUARANTINE,
        "List signed deliveries that could not be understood, newest first.",
        Role.READER,
        _list,
        QuarantinePage,
        query=QuarantineQuery,
    ),
    Route(
        "GET",
        _QUARANTINE + "/{id}",
        "Read one quarantined delivery; its body needs the role `operator` or more.",
        Role.READER,
        _get,
        QuarantineDetail,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/retry",
        "Read a delivery again: it becomes events with their right ids, or stays with the reason it has now.",
        Role.OPERATOR,
        _retry,
        QuarantineItem,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/discard",
        "Mark a delivery as not wanted. Its body stays.",
        Role.OPERATOR,
        _discard,
        QuarantineItem,
        takes=DiscardRequest,
    ),
)
