"""List, show, decide and cancel the runs of agents that have steps or waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Limit, OfAgent, Organization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.roles import Principal
    from slotwire.ingest.operate.run_models import RunItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List, show, decide and cancel the runs of agents that have steps or waits.",
)

State = Literal["running", "waiting", "ready", "parked", "unknown", "diverged", "given_up"]


@app.command("list")
def list_(
    *,
    agent: OfAgent = None,
    organization: Organization = None,
    state: Annotated[State | None, typer.Option(help="Only in this state.", show_default=False)] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List runs whose events are not done, newest first."""
    from slotwire.ingest.operate.run_models import RunQuery

    found = list_items(
        "runs",
        lambda actions, who, query: actions.runs.list(who, query),
        RunQuery,
        limit=limit,
        agent=agent,
        organization=organization,
        state=state,
    )
    _show(found, as_json=as_json)


@app.command()
def show(*, run: Annotated[UUID, typer.Argument(help="The run's id.")], as_json: AsOneJson = False) -> None:
    """Show one run with its journal: what its steps returned may be personal data."""
    found = act("runs", lambda actions, who: actions.runs.get(who, run))
    if as_json:
        typer.echo(json_line(found))
        return
    for name in type(found).model_fields:
        if name != "journal" and getattr(found, name) not in {None, ""}:
            typer.echo(f"{name + ':':<14}{cell(getattr(found, name))}")
    for entry in found.journal:
        until = f" until {cell(entry.deadline)}" if entry.state == "open" and entry.deadline else ""
        typer.echo(f"\n{entry.kind} {cell(entry.name)}: {entry.state}{until}")
        if entry.result is not None:
            typer.echo(f"  {cell(entry.result)}")


@app.command()
def decide(
    *,
    run: Annotated[UUID, typer.Argument(help="The run's id.")],
    step: Annotated[str, typer.Argument(help="The step's name, as `show` prints it.")],
    outcome: Annotated[str, typer.Argument(metavar="done|not_done", help="Whether it has had its effect.")],
    why: Annotated[str, typer.Option(help="How you know; it stays with the run.")],
    result: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the step returned; null by itself.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how the step ended for which a run is held as unknown: the run goes on, and `not_done` calls it again."""
    from slotwire.ingest.operate.run_models import StepDecision

    told = {} if result is None else {"result": _read(result)}
    request = checked(StepDecision, step=step, outcome=outcome, why=why, **told)
    _show([act("runs", lambda actions, who: actions.runs.decide(who, run, request))], as_json=as_json)


@app.command()
def cancel(
    *,
    runs: Annotated[list[UUID], typer.Argument(metavar="RUN...", help="The runs' ids.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """End runs: their events count as done, and their journals go. What their steps have done outside stays done."""

    async def work(actions: Actions, who: Principal) -> list[RunItem]:
        return [await actions.runs.cancel(who, each) for each in runs]

    _show(act("runs", work), as_json=as_json)


def _read(result: str) -> object:
    import orjson

    try:
        return orjson.loads(result)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"is not JSON: {error}", param_hint="--result") from None


def _show(items: Sequence[RunItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "RUN": lambda item: item.id,
            "AGENT": lambda item: item.agent,
            "ORGANIZATION": lambda item: item.organization,
            "EVENT": lambda item: item.event_id,
            "STATE": lambda item: item.state,
            "SINCE": lambda item: item.changed_at,
            "WAITS FOR": lambda item: item.waits_for or "-",
            "REASON": lambda item: item.reason or "-",
        },
        as_json=as_json,
        nothing="no run with steps or waits is open here",
    )
