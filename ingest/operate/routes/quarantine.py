"""Routes of what could not be understood."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.quarantine_models import (
    DiscardRequest,
    QuarantineDetail,
    QuarantineItem,
    QuarantinePage,
    QuarantineQuery,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Answer, Call, Route

_QUARANTINE = "/v1/quarantine"


async def _list(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.quarantine.list(call.who, call.query(QuarantineQuery)))


async def _get(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.quarantine.get(call.who, call.id()))


async def _retry(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.quarantine.retry(call.who, call.id()))


async def _discard(actions: Actions, call: Call) -> Answer:
    request = DiscardRequest.model_validate_json(call.body)
    return Answer(await actions.quarantine.discard(call.who, call.id(), request))


ROUTES = (
    Route(
        "GET",
        _QUARANTINE,
        "List authentic deliveries that became no event, newest first.",
        Role.READER,
        _list,
        QuarantinePage,
        query=QuarantineQuery,
    ),
    Route(
        "GET",
        _QUARANTINE + "/{id}",
        "Read one of them; its body is shown to the role `operator` or more.",
        Role.READER,
        _get,
        QuarantineDetail,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/retry",
        "Read it again: it becomes events with their right ids, or stays with the reason it has now.",
        Role.OPERATOR,
        _retry,
        QuarantineItem,
    ),
    Route(
        "POST",
        _QUARANTINE + "/{id}/discard",
        "Settle it as not wanted; its body stays.",
        Role.OPERATOR,
        _discard,
        QuarantineItem,
        takes=DiscardRequest,
    ),
)
