"""Routes of actions."""

from __future__ import annotations

from slotwire.ingest.operate.action_models import (
    ActionItem,
    ActionPage,
    ActionQuery,
    ActionRequest,
    DecideRequest,
    RestoreConfirmed,
)
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_ACTIONS = "/v1/actions"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.performed.list(request.who, request.query(ActionQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.performed.get(request.who, request.id()))


async def _create(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = ActionRequest.model_validate_json(request.body)
    item, new = await actions.performed.create(request.who, body)
    return RouteResponse(item, 201 if new else 200)


async def _decide(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = DecideRequest.model_validate_json(request.body)
    return RouteResponse(await actions.performed.decide(request.who, request.id(), body))


async def _confirm_restore(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.performed.confirm_restore(request.who))


ROUTES = (
    Route("GET", _ACTIONS, "List actions, newest first.", Role.READER, _list, ActionPage, query=ActionQuery),
    Route(
        "POST",
        _ACTIONS,
        "Book, cancel, reschedule, or set or clear a no-show mark at Calendly, once for your key.",
        Role.OPERATOR,
        _create,
        ActionItem,
        takes=ActionRequest,
        statuses=(200, 201),
    ),
    Route("GET", _ACTIONS + "/{id}", "Read one action.", Role.READER, _get, ActionItem),
    Route(
        "POST",
        _ACTIONS + "/{id}/decide",
        "Say what became of an action that shows nothing by itself.",
        Role.OPERATOR,
        _decide,
        ActionItem,
        takes=DecideRequest,
    ),
    Route(
        "POST",
        _ACTIONS + "/confirm-restore",
        "Let actions call without looking first again, after a restore.",
        Role.ADMIN,
        _confirm_restore,
        RestoreConfirmed,
        everywhere=True,
    ),
)
