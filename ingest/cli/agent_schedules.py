"""List the scheduled work of agents: what is due next, and what was missed."""

from __future__ import annotations

from datetime import timedelta

import typer

from slotwire.ingest.cli.acting import list_items
from slotwire.ingest.cli.listing import print_items
from slotwire.ingest.cli.options import AsJson, Limit, OfAgent, Organization

app = typer.Typer(add_completion=False)


@app.command()
def schedule(
    *, agent: OfAgent = None, organization: Organization = None, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """List the scheduled work of agents for each organization: what is due next, and what was missed."""
    from slotwire.ingest.operate.schedule_models import ScheduleQuery

    found = list_items(
        "schedules",
        lambda actions, who, query: actions.schedules.list(who, query),
        ScheduleQuery,
        limit=limit,
        agent=agent,
        organization=organization,
    )
    print_items(
        found,
        {
            "AGENT": lambda item: item.agent,
            "SCHEDULE": lambda item: item.schedule,
            "ORGANIZATION": lambda item: item.organization,
            "TIMES": lambda item: item.times,
            "NEXT": lambda item: item.due_at or "-",
            "LATE": lambda item: timedelta(seconds=item.late_seconds) if item.late_seconds else "-",
            "WAITING": lambda item: item.waiting,
            "LAST": lambda item: item.fired_due or "-",
            "MISSED": lambda item: item.passed,
            "LAST MISSED": lambda item: item.passed_due or "-",
        },
        as_json=as_json,
        nothing=f"agent {agent} has no scheduled work here, or has not run yet"
        if agent
        else "no agent has scheduled work here, or none has run yet",
    )
