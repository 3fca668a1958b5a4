"""Read the log: list, show and follow events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, act_until_stopped, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Limit, Organization

if TYPE_CHECKING:
    import asyncio

    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.models import EventItem, EventQuery
    from slotwire.ingest.operate.roles import Principal

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Read the log: list, show and follow events.")

Type = Annotated[
    str | None, typer.Option("--type", help="Only this type, for example com.calendly.invitee.created.v1.")
]
Subject = Annotated[str | None, typer.Option("--subject", help="Only about this invitee or resource, by its URI.")]
After = Annotated[int | None, typer.Option("--after", min=0, help="Only events after this position.")]


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    type_: Type = None,
    subject: Subject = None,
    after: After = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="List at most this many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the latest events; with --after, the first ones after that position."""
    query = _query(organization, type_, subject, after, limit)

    async def read(actions: Actions, who: Principal) -> tuple[EventItem, ...]:
        if after is None:
            return await actions.events.latest(who, query)
        return (await actions.events.list(who, query)).items

    _show(act("events", read), as_json=as_json)


@app.command()
def show(
    *,
    event: Annotated[UUID, typer.Argument(help="The event's id.")],
    as_json: AsOneJson = False,
) -> None:
    """Show one event with its data, personal data included."""
    import orjson

    line = json_line(act("events", lambda actions, who: actions.events.get(who, event)))
    typer.echo(line if as_json else orjson.dumps(orjson.loads(line), option=orjson.OPT_INDENT_2).decode())


@app.command()
def parked(*, organization: Organization = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List events that are in the log and not in Kafka, because the broker refused them."""
    from slotwire.ingest.operate.models import ParkedQuery

    found = list_items(
        "events",
        lambda actions, who, query: actions.parked_events.list(who, query),
        ParkedQuery,
        limit=limit,
        organization=organization,
    )
    print_items(
        found,
        {
            "POSITION": lambda item: item.sequence,
            "PARKED": lambda item: item.parked_at,
            "REASON": lambda item: item.reason,
            "TYPE": lambda item: item.type,
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
        },
        as_json=as_json,
        nothing="no event is parked",
    )


@app.command()
def settle(
    *,
    events: Annotated[list[UUID], typer.Argument(metavar="EVENT...", help="The ids of parked events.")],
    as_json: AsJson = False,
) -> None:
    """Note that everybody who needs some parked events has been told. They are parked no more, and stay in the log."""

    async def work(actions: Actions, who: Principal) -> tuple[EventItem, ...]:
        return tuple([await actions.parked_events.settle(who, each) for each in events])

    _show(act("events", work), as_json=as_json)


@app.command()
def tail(
    *,
    organization: Organization = None,
    type_: Type = None,
    subject: Subject = None,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """Follow the log as events are committed, from now or from --after, until interrupted."""
    query = _query(organization, type_, subject, after, 200)

    async def follow(actions: Actions, who: Principal, stop: asyncio.Event) -> None:
        async for item in actions.events.follow(who, query, stop):
            typer.echo(json_line(item) if as_json else _line(item))

    act_until_stopped("events", follow)


def _query(
    organization: str | None, type_: str | None, subject: str | None, after: int | None, limit: int
) -> EventQuery:
    from slotwire.ingest.operate.models import EventQuery

    return checked(EventQuery, organization=organization, type=type_, subject=subject, after=after, limit=limit)


def _show(items: tuple[EventItem, ...], *, as_json: bool) -> None:

    print_items(
        items,
        {
            "POSITION": lambda item: item.sequence,
            "TIME": lambda item: item.time,
            "TYPE": lambda item: item.type,
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "SUBJECT": lambda item: item.subject.partition("//")[2].partition("/")[2],
        },
        as_json=as_json,
        nothing="no events yet",
    )


def _line(item: EventItem) -> str:

    subject = item.subject.partition("//")[2].partition("/")[2]
    return f"{item.sequence}  {cell(item.time)}  {item.type}  {item.id}  {cell(subject)}"
