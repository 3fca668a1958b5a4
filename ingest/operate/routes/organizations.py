"""Routes of organizations."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.organization_models import (
    OrganizationAdded,
    OrganizationDetail,
    OrganizationItem,
    OrganizationPage,
    OrganizationQuery,
    OrganizationRemoved,
    OrganizationRequest,
    RemovalQuery,
    RenameRequest,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.organizations.list(request.who, request.query(OrganizationQuery)))


async def _add(actions: Actions, request: RouteRequest) -> RouteResponse:
    added = await actions.organizations.add(request.who, OrganizationRequest.model_validate_json(request.body))
    return RouteResponse(added, 201 if added.new else 200)


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.organizations.get(request.who, request.path["org"]))


async def _rename(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = RenameRequest.model_validate_json(request.body)
    return RouteResponse(await actions.organizations.rename(request.who, request.path["org"], body))


async def _remove(actions: Actions, request: RouteRequest) -> RouteResponse:
    how = request.query(RemovalQuery)
    return RouteResponse(
        await actions.organizations.remove(request.who, request.path["org"], force=how.force, at_once=how.now)
    )


ROUTES = (
    Route(
        "GET",
        "/v1/organizations",
        "List organizations, ordered by name.",
        Role.READER,
        _list,
        OrganizationPage,
        query=OrganizationQuery,
    ),
    Route(
        "POST",
        "/v1/organizations",
        "Go from a token to live events: connect its user, subscribe the organization; 200 if that is done already.",
        Role.OPERATOR,
        _add,
        OrganizationAdded,
        takes=OrganizationRequest,
        statuses=(201, 200),
    ),
    Route(
        "GET",
        "/v1/organizations/{org}",
        "Read one organization with its wanted subscriptions, and how the comparing of its meetings is.",
        Role.READER,
        _get,
        OrganizationDetail,
    ),
    Route(
        "PATCH",
        "/v1/organizations/{org}",
        "Give an organization another name of yours, or none. Events that are written later carry it.",
        Role.ADMIN,
        _rename,
        OrganizationItem,
        takes=RenameRequest,
        everywhere=True,
    ),
    Route(
        "DELETE",
        "/v1/organizations/{org}",
        "Remove an organization: end its subscriptions at Calendly, then delete its credentials. Its history stays.",
        Role.ADMIN,
        _remove,
        OrganizationRemoved,
        query=RemovalQuery,
    ),
)
