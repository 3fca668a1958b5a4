"""Routes of connections: credentials at Calendly."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.connect_link_models import ConnectionStart, ConnectionStarted, ConnectLinkRequest
from slotwire.ingest.operate.connection_models import (
    ConnectionDetail,
    ConnectionItem,
    ConnectionPage,
    ConnectionRequest,
)
from slotwire.ingest.operate.models import PageQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_CONNECTIONS = "/v1/organizations/{org}/connections"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.list(request.who, request.path["org"], request.query(PageQuery)))


async def _add(actions: Actions, request: RouteRequest) -> RouteResponse:
    org, body = request.path["org"], ConnectionStart.model_validate_json(request.body)
    if body.token is None:
        asked = ConnectLinkRequest(organization=org, **body.model_dump(exclude={"token"}))
        return RouteResponse(ConnectionStarted(link=await actions.connect_links.create(request.who, asked)), 201)
    made, new = await actions.connections.add(request.who, org, ConnectionRequest(token=body.token))
    return RouteResponse(ConnectionStarted(connection=made), 201 if new else 200)


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.get(request.who, request.path["org"], request.id()))


async def _check(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.check(request.who, request.path["org"], request.id()))


async def _probe(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connections.probe(request.who, request.path["org"], request.id()))


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
        "Connect a user by personal access token (200 if it replaces the user's old one), or make a link for one.",
        Role.OPERATOR,
        _add,
        ConnectionStarted,
        takes=ConnectionStart,
        statuses=(201, 200),
    ),
    Route("GET", _CONNECTIONS + "/{id}", "Read one connection.", Role.READER, _get, ConnectionDetail),
    Route(
        "POST",
        _CONNECTIONS + "/{id}/check",
        "Ask Calendly whether a connection is still good. The result is in its state.",
        Role.OPERATOR,
        _check,
        ConnectionItem,
    ),
    Route(
        "POST",
        _CONNECTIONS + "/{id}/probe",
        "Ask Calendly what a connection can do: scopes, plan and role, family by family.",
        Role.OPERATOR,
        _probe,
        ConnectionDetail,
    ),
    Route(
        "DELETE",
        _CONNECTIONS + "/{id}",
        "Delete a credential. What a personal access token subscribed continues; OAuth is disconnected at Calendly.",
        Role.OPERATOR,
        _delete,
        ConnectionItem,
    ),
)
