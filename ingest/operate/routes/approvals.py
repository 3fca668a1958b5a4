"""Routes of approvals."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.approval_models import (
    ApprovalItem,
    ApprovalLinkCreated,
    ApprovalPage,
    ApprovalQuery,
    DecisionRequest,
)
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse

_APPROVALS = "/v1/approvals"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.approvals.list(request.who, request.query(ApprovalQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.approvals.get(request.who, request.id()))


async def _decide(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = DecisionRequest.model_validate_json(request.body)
    return RouteResponse(await actions.approvals.decide(request.who, request.id(), body))


async def _link(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.approvals.link(request.who, request.id()), 201)


ROUTES = (
    Route(
        "GET",
        _APPROVALS,
        "List what agents ask somebody to approve, newest first; what it is for needs the role `operator` or more.",
        Role.READER,
        _list,
        ApprovalPage,
        query=ApprovalQuery,
    ),
    Route(
        "GET",
        _APPROVALS + "/{id}",
        "Read one approval; what it is for needs the role `operator` or more.",
        Role.READER,
        _get,
        ApprovalItem,
    ),
    Route(
        "POST",
        _APPROVALS + "/{id}/decide",
        "Approve or deny what an agent asks for: once, in time, and for the digest that you have seen.",
        Role.OPERATOR,
        _decide,
        ApprovalItem,
        takes=DecisionRequest,
    ),
    Route(
        "POST",
        _APPROVALS + "/{id}/link",
        "Make the link under which the person who is asked decides in the browser; an earlier one ends.",
        Role.OPERATOR,
        _link,
        ApprovalLinkCreated,
        statuses=(201,),
    ),
)
