"""Routes of dead letters."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.dead_letter_models import (
    AllLettersRequest,
    DeadLetterDetail,
    DeadLetterItem,
    DeadLetterPage,
    DeadLetterQuery,
    EditRequest,
    LetterDiscardRequest,
    RedriveRequest,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_LETTERS = "/v1/dead-letters"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.dead_letters.list(request.who, request.query(DeadLetterQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.dead_letters.get(request.who, request.id()))


async def _redrive(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = RedriveRequest.model_validate_json(request.body)
    return RouteResponse(await actions.dead_letters.redrive(request.who, request.id(), body))


async def _redrive_all(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = AllLettersRequest.model_validate_json(request.body)
    return RouteResponse(await actions.dead_letters.redrive_all(request.who, body))


async def _edit(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = EditRequest.model_validate_json(request.body)
    return RouteResponse(await actions.dead_letters.edit(request.who, request.id(), body))


async def _discard(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = LetterDiscardRequest.model_validate_json(request.body)
    return RouteResponse(await actions.dead_letters.discard(request.who, request.id(), body))


ROUTES = (
    Route(
        "GET",
        _LETTERS,
        "List the records that agents gave up, newest first.",
        Role.READER,
        _list,
        DeadLetterPage,
        query=DeadLetterQuery,
    ),
    Route(
        "POST",
        _LETTERS + "/redrive",
        "Drive all open dead letters of an agent again, each key's in their order; shows up to 50 that wait now.",
        Role.OPERATOR,
        _redrive_all,
        DeadLetterPage,
        takes=AllLettersRequest,
    ),
    Route(
        "GET",
        _LETTERS + "/{id}",
        "Read one dead letter; what it holds needs the role `operator` or more.",
        Role.READER,
        _get,
        DeadLetterDetail,
    ),
    Route(
        "POST",
        _LETTERS + "/{id}/redrive",
        "Drive a dead letter again: its agent alone handles it, after the work of its key that runs.",
        Role.OPERATOR,
        _redrive,
        DeadLetterItem,
        takes=RedriveRequest,
    ),
    Route(
        "POST",
        _LETTERS + "/{id}/edit",
        "Give a dead letter other data, for when it is driven again. The record's own stays.",
        Role.OPERATOR,
        _edit,
        DeadLetterItem,
        takes=EditRequest,
    ),
    Route(
        "POST",
        _LETTERS + "/{id}/discard",
        "Mark a dead letter as not wanted. What it holds stays.",
        Role.OPERATOR,
        _discard,
        DeadLetterItem,
        takes=LetterDiscardRequest,
    ),
)
