"""Routes of what could not be understood."""

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
        "List authentic deliveries that became no event, newest first.",
        Role.READER,
        _list,
        QuarantinePage,
        query=QuarantineQuery,
    ),
    Route(
        "GET",
        _QUARANTINE + "/{id}",
        "Read one of them; its body is shown to the role `operator` or more.",
        Role.READER,
        _get,
        QuarantineDetail,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/retry",
        "Read it again: it becomes events with their right ids, or stays with the reason it has now.",
        Role.OPERATOR,
        _retry,
        QuarantineItem,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/discard",
        "Settle it as not wanted; its body stays.",
        Role.OPERATOR,
        _discard,
        QuarantineItem,
        takes=DiscardRequest,
    ),
)
