"""Routes of agents of MCP."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.mcp_agent_models import (
    McpAgentItem,
    McpAgentPage,
    McpAgentQuery,
    McpAgentRequest,
    NewMcpAgent,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_AGENTS = "/v1/mcp/agents"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.mcp_agents.list(request.who, request.query(McpAgentQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.mcp_agents.get(request.who, request.id()))


async def _create(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = McpAgentRequest.model_validate_json(request.body)
    return RouteResponse(await actions.mcp_agents.create(request.who, body), 201)


async def _revoke(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.mcp_agents.revoke(request.who, request.id()))


ROUTES = (
    Route(
        "GET",
        _AGENTS,
        "List agents that reach Slotwire by MCP, without their secrets.",
        Role.READER,
        _list,
        McpAgentPage,
        query=McpAgentQuery,
    ),
    Route(
        "POST",
        _AGENTS,
        "Register an agent of MCP. Only this response shows its secret.",
        Role.ADMIN,
        _create,
        NewMcpAgent,
        takes=McpAgentRequest,
        statuses=(201,),
    ),
    Route("GET", _AGENTS + "/{id}", "Read one agent of MCP.", Role.READER, _get, McpAgentItem),
    Route(
        "DELETE",
        _AGENTS + "/{id}",
        "Revoke an agent of MCP with its tokens, effective at once.",
        Role.ADMIN,
        _revoke,
        McpAgentItem,
    ),
)
