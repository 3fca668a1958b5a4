"""Routes of the management API's keys."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.models import KeyItem, KeyPage, KeyRequest, NewKey, PageQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.keys.list(request.who, request.query(PageQuery)))


async def _create(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.keys.create(request.who, KeyRequest.model_validate_json(request.body)), 201)


async def _revoke(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.keys.revoke(request.who, request.id()))


ROUTES = (
    Route("GET", "/v1/keys", "List keys of this API.", Role.ADMIN, _list, KeyPage, query=PageQuery),
    Route(
        "POST",
        "/v1/keys",
        "Make a key of this API. Only this response shows it.",
        Role.ADMIN,
        _create,
        NewKey,
        takes=KeyRequest,
        statuses=(201,),
    ),
    Route("DELETE", "/v1/keys/{id}", "Revoke a key of this API, effective at once.", Role.ADMIN, _revoke, KeyItem),
)
