"""Fetch from Calendly what an organization may have missed, and list the times in which it may have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson

if TYPE_CHECKING:
    from slotwire.ingest.control.fetch_progress import FetchProgress
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.reconciliation_models import (
        ReconciliationItem,
        ReconciliationReport,
        ReconciliationRequest,
    )
    from slotwire.ingest.operate.roles import Principal

app = typer.Typer(add_completion=False)


@app.command()
def reconcile(
    *,
    organization: Annotated[
        str | None,
        typer.Argument(
            metavar="ORG",
            help="The last segment of Calendly's organization URI. Not needed if you have only one organization.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"],
            help="Fetch what happened since then, in UTC; a day ago when left out.",
            show_default=False,
        ),
    ] = None,
    holes: Annotated[
        bool, typer.Option("--list", help="Fetch nothing: list the holes that are not filled yet.")
    ] = False,
    ended: Annotated[bool, typer.Option("--ended", help="With --list: those that are filled, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch from Calendly what an organization may have missed. `slotwire control` does so by itself for each hole.

    Safe to repeat: what is known makes no second event. Exits with 1 if the fetch did not end.
    """
    if holes:
        _list(organization, ended=ended, as_json=as_json)
        return
    if ended:
        raise typer.BadParameter("--ended goes with --list")
    from slotwire.ingest.operate.reconciliation_models import ReconciliationRequest

    moment = None if since is None else since.replace(tzinfo=UTC)
    request = checked(ReconciliationRequest, organization=organization, since=moment)
    done = act("reconcile", lambda actions, who: _run(actions, who, request))
    if as_json:
        typer.echo(json_line(done))
    elif done.report is not None:
        _tell(done.report)
    if done.state != "closed":
        typer.echo(f"not ended: {done.problem or 'nothing writes what was accepted'}", err=True)
        typer.echo(
            f"slotwire control goes on after {cell(done.due_at)}. `slotwire doctor` tells what is wrong.", err=True
        )
        raise typer.Exit(1)


async def _run(actions: Actions, who: Principal, request: ReconciliationRequest) -> ReconciliationItem:
    """Ask for it, and fetch; a terminal shows the progress. If cut off, `slotwire control` goes on."""
    from rich.console import Console

    hole = await actions.reconciliations.create(who, request)
    with Console(stderr=True).status(f"fetching since {cell(hole.since)}") as status:

        def report(found: FetchProgress) -> None:
            status.update(f"fetching {found.stage.value}: {found.meetings} meetings, {found.invitees} invitees read")

        return await actions.reconciliations.run(who, hole.id, report)


def _tell(report: ReconciliationReport) -> None:
    typer.echo(
        f"{report.meetings} meetings from {cell(report.meetings_from)} on, {report.invitees} invitees read:"
        f" {report.calls} calls, {report.calls_saved} saved; {report.known} known"
    )
    for kind, events in report.recovered.items():
        typer.echo(f"recovered: {events} {kind}")
    if not report.recovered:
        typer.echo("recovered: nothing was missing")
    if report.quarantined:
        typer.echo(f"not understood: {report.quarantined}: slotwire quarantine list")
    if report.skipped:
        typer.echo(f"not readable: {report.skipped}")
    for item in report.skipped_named:
        typer.echo(f"  {cell(item.uri)}  ({cell(item.reason)})")
    for what in report.unprovable:
        typer.echo(f"cannot be proven: {what.says}" + (f": {what.count}" if what.count else ""))
        for name in what.named:
            typer.echo(f"  {cell(name)}")


def _list(organization: str | None, *, ended: bool, as_json: bool) -> None:
    from slotwire.ingest.operate.reconciliation_models import ReconciliationQuery

    found = list_items(
        "reconcile",
        lambda actions, who, query: actions.reconciliations.list(who, query),
        ReconciliationQuery,
        organization=organization,
        ended=ended,
    )
    print_items(
        found,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "CAUSE": lambda item: item.cause.value,
            "SINCE": lambda item: item.since,
            "LAST NOTICED": lambda item: item.last_noticed_at,
            "STATE": lambda item: item.state,
            "RECOVERED": lambda item: item.report and sum(item.report.recovered.values()),
            "PROBLEM": lambda item: item.problem,
        },
        as_json=as_json,
        nothing="no holes that are not filled" if not ended else "no holes",
    )
