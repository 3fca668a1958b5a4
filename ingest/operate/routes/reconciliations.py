"""Routes of reconciliations."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.reconciliation_models import (
    ReconciliationItem,
    ReconciliationPage,
    ReconciliationQuery,
    ReconciliationRequest,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_RECONCILIATIONS = "/v1/reconciliations"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.reconciliations.list(request.who, request.query(ReconciliationQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.reconciliations.get(request.who, request.id()))


async def _create(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = ReconciliationRequest.model_validate_json(request.body)
    return RouteResponse(await actions.reconciliations.create(request.who, body), 201)


ROUTES = (
    Route(
        "GET",
        _RECONCILIATIONS,
        "List the times in which something may have been missed, newest first.",
        Role.READER,
        _list,
        ReconciliationPage,
        query=ReconciliationQuery,
    ),
    Route(
        "POST",
        _RECONCILIATIONS,
        "Fetch what an organization may have missed since a time; `slotwire control` does it at once.",
        Role.OPERATOR,
        _create,
        ReconciliationItem,
        takes=ReconciliationRequest,
        statuses=(201,),
    ),
    Route(
        "GET",
        _RECONCILIATIONS + "/{id}",
        "Read one of them, with its report once it has ended.",
        Role.READER,
        _get,
        ReconciliationItem,
    ),
)
