"""List when users can be booked."""

from __future__ import annotations

from typing import Annotated

import typer

from slotwire.ingest.cli.acting import list_items
from slotwire.ingest.cli.listing import print_items
from slotwire.ingest.cli.options import AsJson, Limit, Organization

app = typer.Typer(no_args_is_help=True, add_completion=False, help="List when users can be booked.")


@app.callback()
def availability() -> None:
    """List when users can be booked."""


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    user: Annotated[str | None, typer.Option(help="Only of this user, by URI.", show_default=False)] = None,
    event_type: Annotated[str | None, typer.Option(help="Only of this event type, by URI.", show_default=False)] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List open slots and busy times by user and event type, as the agent availability-sync last read them."""
    from slotwire.ingest.operate.availability_models import AvailabilityQuery

    found = list_items(
        "availability",
        lambda actions, who, query: actions.availability.list(who, query),
        AvailabilityQuery,
        limit=limit,
        organization=organization,
        user=user,
        event_type=event_type,
    )
    print_items(
        found,
        {
            "ORGANIZATION": lambda item: item.organization,
            "USER": lambda item: item.user.rpartition("/")[2],
            "EVENT TYPE": lambda item: item.event_type.rpartition("/")[2],
            "SLOTS": lambda item: len(item.slots),
            "NEXT": lambda item: item.slots[0].start_time if item.slots else "-",
            "BUSY": lambda item: len(item.busy),
            "READ": lambda item: item.read_at or "-",
            "STATE": lambda item: "gone" if item.gone else "changed" if item.changed_since else "current",
        },
        as_json=as_json,
        nothing="nothing is known: run the agent availability-sync",
    )
