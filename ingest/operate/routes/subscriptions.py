"""Routes of webhook subscriptions."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.finding_models import DeletionsConfirmed, PlacesResumed, SubscriptionFindings
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse
from slotwire.ingest.operate.subscription_models import (
    DeletionQuery,
    SubscriptionItem,
    SubscriptionPage,
    SubscriptionQuery,
    SubscriptionRequest,
)

_SUBSCRIPTIONS = "/v1/organizations/{org}/subscriptions"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(
        await actions.subscriptions.list(request.who, request.path["org"], request.query(SubscriptionQuery))
    )


async def _create(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = SubscriptionRequest.model_validate_json(request.body)
    made, new = await actions.subscriptions.create(request.who, request.path["org"], body)
    return RouteResponse(made, 201 if new else 200)


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.subscriptions.get(request.who, request.path["org"], request.id()))


async def _delete(actions: Actions, request: RouteRequest) -> RouteResponse:
    at_once = request.query(DeletionQuery).now
    return RouteResponse(
        await actions.subscriptions.delete(request.who, request.path["org"], request.id(), at_once=at_once)
    )


async def _findings(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.subscriptions.findings(request.who, request.path["org"]))


async def _resume(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.subscriptions.resume(request.who, request.path["org"]))


async def _confirm_deletions(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.subscriptions.confirm_deletions(request.who))


ROUTES = (
    Route(
        "GET",
        _SUBSCRIPTIONS,
        "List an organization's subscriptions; if asked, each with Calendly's own answer about it.",
        Role.READER,
        _list,
        SubscriptionPage,
        query=SubscriptionQuery,
    ),
    Route(
        "POST",
        _SUBSCRIPTIONS,
        "Subscribe an organization, or one user or group of it, at Calendly; 200 if it is subscribed already.",
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
        "End a subscription, at Calendly first, and no longer want it.",
        Role.OPERATOR,
        _delete,
        SubscriptionItem,
        query=DeletionQuery,
    ),
    Route(
        "GET",
        "/v1/organizations/{org}/subscription-findings",
        "Ask Calendly what is wrong with an organization's subscriptions, with what mends it.",
        Role.READER,
        _findings,
        SubscriptionFindings,
    ),
    Route(
        "POST",
        _SUBSCRIPTIONS + "/resume",
        "Make subscriptions again that were gone again and again, after you found out why.",
        Role.OPERATOR,
        _resume,
        PlacesResumed,
    ),
    Route(
        "POST",
        "/v1/subscriptions/confirm-deletions",
        "Carry deletions at Calendly out on this database, after it was restored, copied or failed over.",
        Role.ADMIN,
        _confirm_deletions,
        DeletionsConfirmed,
        everywhere=True,
    ),
)
