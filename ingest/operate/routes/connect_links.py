"""Routes of links under which customers connect their Calendly."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.connect_link_models import (
    CodeRequest,
    ConnectLinkCreated,
    ConnectLinkItem,
    ConnectLinkLive,
    ConnectLinkPage,
    ConnectLinkQuery,
    ConnectLinkRequest,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_LINKS = "/v1/connect-links"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connect_links.list(request.who, request.query(ConnectLinkQuery)))


async def _create(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = ConnectLinkRequest.model_validate_json(request.body)
    return RouteResponse(await actions.connect_links.create(request.who, body), 201)


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connect_links.get(request.who, request.id()))


async def _withdraw(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.connect_links.withdraw(request.who, request.id()))


async def _exchange(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = CodeRequest.model_validate_json(request.body)
    return RouteResponse(await actions.connect_links.exchange(request.who, request.id(), body))


ROUTES = (
    Route(
        "GET",
        _LINKS,
        "List links under which customers connect, without their addresses.",
        Role.READER,
        _list,
        ConnectLinkPage,
        query=ConnectLinkQuery,
    ),
    Route(
        "POST",
        _LINKS,
        "Make a link under which a customer connects their Calendly in the browser.",
        Role.OPERATOR,
        _create,
        ConnectLinkCreated,
        takes=ConnectLinkRequest,
        statuses=(201,),
    ),
    Route("GET", _LINKS + "/{id}", "Read one link.", Role.READER, _get, ConnectLinkItem),
    Route("DELETE", _LINKS + "/{id}", "End a link before its time.", Role.OPERATOR, _withdraw, ConnectLinkItem),
    Route(
        "POST",
        _LINKS + "/{id}/exchange",
        "Present the code that came to the return address, and go live.",
        Role.OPERATOR,
        _exchange,
        ConnectLinkLive,
        takes=CodeRequest,
    ),
)
