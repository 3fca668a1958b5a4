"""Routes of connections: credentials at Calendly."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.connection_models import ConnectionItem, ConnectionPage, ConnectionRequest
from slotwire.ingest.operate.models import PageQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_CONNECTIONS = "/v1/organizations/{org}/connections"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.list(request.who, request.path["org"], request.query(PageQuery)))


async def _add(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = ConnectionRequest.model_validate_json(request.body)
    made, new = await actions.connections.add(request.who, request.path["org"], body)
    return RouteResponse(made, 201 if new else 200)


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.get(request.who, request.path["org"], request.id()))


async def _check(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.check(request.who, request.path["org"], request.id()))


async def _delete(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.delete(request.who, request.path["org"], request.id()))


ROUTES = (
    Route(
        "GET",
        _CONNECTIONS,
        "List an organization's connections, without their secrets.",
        Role.READER,
        _list,
        ConnectionPage,
        query=PageQuery,
    ),
    Route(
        "POST",
        _CONNECTIONS,
        "Connect a user by personal access token; 200 if it replaces the user's old token.",
        Role.OPERATOR,
        _add,
        ConnectionItem,
        takes=ConnectionRequest,
        statuses=(201, 200),
    ),
    Route("GET", _CONNECTIONS + "/{id}", "Read one connection.", Role.READER, _get, ConnectionItem),
    Route(
        "POST",
        _CONNECTIONS + "/{id}/check",
        "Ask Calendly whether a connection is still good. The result is in its state.",
        Role.OPERATOR,
        _check,
        ConnectionItem,
    ),
    Route(
        "DELETE",
        _CONNECTIONS + "/{id}",
        "Delete a credential. Subscriptions made with it continue.",
        Role.OPERATOR,
        _delete,
        ConnectionItem,
    ),
)
