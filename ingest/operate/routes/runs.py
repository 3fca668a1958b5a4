"""Routes of agents' runs."""

from __future__ import annotations

from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes.base import Route, RouteRequest, RouteResponse
from slotwire.ingest.operate.run_models import RunDetail, RunItem, RunPage, RunQuery, StepDecision

_RUNS = "/v1/runs"


async def _list(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.runs.list(request.who, request.query(RunQuery)))


async def _get(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.runs.get(request.who, request.id()))


async def _decide(actions: Actions, request: RouteRequest) -> RouteResponse:
    body = StepDecision.model_validate_json(request.body)
    return RouteResponse(await actions.runs.decide(request.who, request.id(), body))


async def _cancel(actions: Actions, request: RouteRequest) -> RouteResponse:
    return RouteResponse(await actions.runs.cancel(request.who, request.id()))


ROUTES = (
    Route(
        "GET",
        _RUNS,
        "List the runs of agents that have steps or waits, until their events are done; newest first.",
        Role.READER,
        _list,
        RunPage,
        query=RunQuery,
    ),
    Route(
        "GET",
        _RUNS + "/{id}",
        "Read one run with its journal; what its steps returned needs the role `operator` or more.",
        Role.READER,
        _get,
        RunDetail,
    ),
    Route(
        "POST",
        _RUNS + "/{id}/decide",
        "Say how the step ended for which a run is held as `unknown`: the run goes on from there.",
        Role.OPERATOR,
        _decide,
        RunItem,
        takes=StepDecision,
    ),
    Route(
        "POST",
        _RUNS + "/{id}/cancel",
        "End a run: its event counts as done, and its journal goes.",
        Role.OPERATOR,
        _cancel,
        RunItem,
    ),
)
