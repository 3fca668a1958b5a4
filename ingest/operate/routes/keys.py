"""Routes of the management API's keys."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.models import KeyItem, KeyPage, KeyRequest, NewKey, PageQuery
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Answer, Call, Route


async def _list(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.keys.list(call.who, call.query(PageQuery)))


async def _create(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.keys.create(call.who, KeyRequest.model_validate_json(call.body)), 201)


async def _revoke(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.keys.revoke(call.who, call.id()))


ROUTES = (
    Route("GET", "/v1/keys", "List keys of this API.", Role.ADMIN, _list, KeyPage, query=PageQuery),
    Route(
        "POST",
        "/v1/keys",
        "Make a key of this API; it is shown once.",
        Role.ADMIN,
        _create,
        NewKey,
        takes=KeyRequest,
        statuses=(201,),
    ),
    Route("DELETE", "/v1/keys/{id}", "Revoke a key of this API, at once.", Role.ADMIN, _revoke, KeyItem),
)
