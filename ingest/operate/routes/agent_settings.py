"""Routes of the settings of shipped agents."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.agent_settings_models import (
    AgentSettingsItem,
    AgentSettingsPage,
    AgentSettingsQuery,
    AgentSettingsRequest,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_SETTINGS = "/v1/agents/settings"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.agent_settings.list(request.who, request.query(AgentSettingsQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.agent_settings.get(request.who, request.id()))


async def _set(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = AgentSettingsRequest.model_validate_json(request.body)
    return RouteResponse(await actions.agent_settings.set(request.who, body))


async def _unset(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.agent_settings.unset(request.who, request.id()))


ROUTES = (
    Route(
        "GET",
        _SETTINGS,
        "List the settings of agents that come with Slotwire, by id, without their secrets.",
        Role.READER,
        _list,
        AgentSettingsPage,
        query=AgentSettingsQuery,
    ),
    Route(
        "POST",
        _SETTINGS,
        "Say what an agent that comes with Slotwire is to do, for an organization or for all that have no settings.",
        Role.OPERATOR,
        _set,
        AgentSettingsItem,
        takes=AgentSettingsRequest,
    ),
    Route(
        "GET",
        _SETTINGS + "/{id}",
        "Read the settings of an agent for one organization, without their secrets.",
        Role.READER,
        _get,
        AgentSettingsItem,
    ),
    Route(
        "DELETE",
        _SETTINGS + "/{id}",
        "Remove settings: the agent then goes by those for everybody, or does nothing.",
        Role.OPERATOR,
        _unset,
        AgentSettingsItem,
    ),
)
