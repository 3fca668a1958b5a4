"""Routes of erasures."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.erasure_models import ErasureItem, ErasurePage, ErasureQuery, ErasureRequest
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_ERASURES = "/v1/erasures"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.erasures.list(request.who, request.query(ErasureQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.erasures.get(request.who, request.id()))


async def _create(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = ErasureRequest.model_validate_json(request.body)
    return RouteResponse(await actions.erasures.create(request.who, body), 201)


ROUTES = (
    Route(
        "GET",
        _ERASURES,
        "List erasures of people, newest first.",
        Role.READER,
        _list,
        ErasurePage,
        query=ErasureQuery,
    ),
    Route(
        "POST",
        _ERASURES,
        "Erase a person's data from everything that is stored, and end what agents do for them. For ever.",
        Role.OPERATOR,
        _create,
        ErasureItem,
        takes=ErasureRequest,
        statuses=(201,),
    ),
    Route(
        "GET",
        _ERASURES + "/{id}",
        "Read one of them, with its report once it has ended.",
        Role.READER,
        _get,
        ErasureItem,
    ),
)
