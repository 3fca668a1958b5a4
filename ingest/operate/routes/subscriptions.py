"""Routes of webhook subscriptions."""

from __future__ import annotations

from ingest.operate.actions import Actions
from ingest.operate.models import PageQuery, SubscriptionItem, SubscriptionPage, SubscriptionRequest
from ingest.operate.roles import Role
from ingest.operate.routes.base import Answer, Call, Route

_SUBSCRIPTIONS = "/v1/organizations/{org}/subscriptions"


async def _list(actions: Actions, call: Call) -> Answer:
    query = call.query(PageQuery)
    return Answer(await actions.subscriptions.list(call.who, call.path["org"], query, call.token))


async def _create(actions: Actions, call: Call) -> Answer:
    request = SubscriptionRequest.model_validate_json(call.body)
    made, new = await actions.subscriptions.create(call.who, call.path["org"], request)
    return Answer(made, 201 if new else 200)


async def _get(actions: Actions, call: Call) -> Answer:
    return Answer(await actions.subscriptions.get(call.who, call.path["org"], call.id()))


async def _delete(actions: Actions, call: Call) -> Answer:
    ended = await actions.subscriptions.delete(call.who, call.path["org"], call.id(), call.required_token())
    return Answer(ended)


ROUTES = (
    Route(
        "GET",
        _SUBSCRIPTIONS,
        "List an organization's subscriptions, with a token beside what Calendly says of them.",
        Role.READER,
        _list,
        SubscriptionPage,
        query=PageQuery,
        token="optional",  # noqa: S106 -- says whether there is one
    ),
    Route(
        "POST",
        _SUBSCRIPTIONS,
        "Subscribe an organization at Calendly; 200 when it is subscribed already.",
        Role.OPERATOR,
        _create,
        SubscriptionItem,
        takes=SubscriptionRequest,
        statuses=(201, 200),
    ),
    Route("GET", _SUBSCRIPTIONS + "/{id}", "Read one subscription.", Role.READER, _get, SubscriptionItem),
    Route(
        "DELETE",
        _SUBSCRIPTIONS + "/{id}",
        "End a subscription, at Calendly first.",
        Role.OPERATOR,
        _delete,
        SubscriptionItem,
        token="required",  # noqa: S106 -- says whether there is one
    ),
)
