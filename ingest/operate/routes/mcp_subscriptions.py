"""Routes of webhook subscriptions of MCP Events."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.mcp_subscription_models import (
    McpSubscriptionItem,
    McpSubscriptionPage,
    McpSubscriptionQuery,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_SUBSCRIPTIONS = "/v1/mcp/subscriptions"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.mcp_subscriptions.list(request.who, request.query(McpSubscriptionQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.mcp_subscriptions.get(request.who, request.id()))


async def _delete(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.mcp_subscriptions.delete(request.who, request.id()))


ROUTES = (
    Route(
        "GET",
        _SUBSCRIPTIONS,
        "List webhook subscriptions of agents of MCP, without their secrets, with the host of their addresses.",
        Role.READER,
        _list,
        McpSubscriptionPage,
        query=McpSubscriptionQuery,
    ),
    Route(
        "GET",
        _SUBSCRIPTIONS + "/{id}",
        "Read one webhook subscription of an agent of MCP.",
        Role.READER,
        _get,
        McpSubscriptionItem,
    ),
    Route(
        "DELETE",
        _SUBSCRIPTIONS + "/{id}",
        "End a webhook subscription of an agent of MCP; nothing more is sent, and its host is told if it understands.",
        Role.OPERATOR,
        _delete,
        McpSubscriptionItem,
    ),
)
