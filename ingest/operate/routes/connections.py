"""Routes of credentials at Calendly."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.connection_models import ConnectionItem, ConnectionPage, ConnectionRequest
from slotwire.ingest.operate.models import PageQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Answer, Call, Route

_CONNECTIONS = "/v1/organizations/{org}/connections"


async def _list(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.connections.list(call.who, call.path["org"], call.query(PageQuery)))


async def _add(actions: Actions, call: Call) -> Answer:
    request = ConnectionRequest.model_validate_json(call.body)
    made, new = await actions.connections.add(call.who, call.path["org"], request)
    return Answer(made, 201 if new else 200)


async def _get(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.connections.get(call.who, call.path["org"], call.id()))


async def _check(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.connections.check(call.who, call.path["org"], call.id()))


async def _delete(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.connections.delete(call.who, call.path["org"], call.id()))


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
        "Connect a user by personal access token; 200 when it replaces the one before.",
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
        "Ask Calendly whether it is still good; what was learnt is in its state.",
        Role.OPERATOR,
        _check,
        ConnectionItem,
    ),
    Route(
        "DELETE",
        _CONNECTIONS + "/{id}",
        "Forget a credential; what was subscribed with it goes on.",
        Role.OPERATOR,
        _delete,
        ConnectionItem,
    ),
)
