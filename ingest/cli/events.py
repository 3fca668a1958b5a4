"""Read the log: list, show and follow events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.models import EventItem, EventQuery

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Read the log: list, show and follow events.")

Organization = Annotated[
    str | None,
    typer.Option("--organization", help="The last segment of Calendly's organization URI.", show_default=False),
]
Type = Annotated[str | None, typer.Option("--type", help="Of one type, as com.calendly.invitee.created.v1.")]
Subject = Annotated[str | None, typer.Option("--subject", help="Of one invitee or resource, by its URI.")]
After = Annotated[int | None, typer.Option("--after", min=0, help="Only what comes after this position.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    type_: Type = None,
    subject: Subject = None,
    after: After = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many at the most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the last events; with --after, the first ones after that position."""
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.operate.roles import COMMAND_LINE

    query = _query(organization, type_, subject, after, limit)

    async def read(actions: Actions) -> tuple[EventItem, ...]:
        if after is None:
            return await actions.events.latest(COMMAND_LINE, query)
        return (await actions.events.list(COMMAND_LINE, query)).items

    _show(act("events", read), as_json=as_json)


@app.command()
def show(
    *,
    event: Annotated[UUID, typer.Argument(help="Its id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it on one line.")] = False,
) -> None:
    """Show one event with its data, personal data included."""
    import orjson

    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.cli.listing import json_line
    from slotwire.ingest.operate.roles import COMMAND_LINE

    line = json_line(act("events", lambda actions: actions.events.get(COMMAND_LINE, event)))
    typer.echo(line if as_json else orjson.dumps(orjson.loads(line), option=orjson.OPT_INDENT_2).decode())


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
    import asyncio

    from slotwire.ingest.cli.listing import json_line
    from slotwire.ingest.foundation.clock import SystemClock
    from slotwire.ingest.foundation.lifecycle import run
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.operate.process import operating
    from slotwire.ingest.operate.roles import COMMAND_LINE

    settings, query = load_settings(), _query(organization, type_, subject, after, 200)

    async def main(stop: asyncio.Event) -> None:
        async with operating(settings, SystemClock(), application="events") as actions:
            async for item in actions.events.follow(COMMAND_LINE, query, stop):
                typer.echo(json_line(item) if as_json else _line(item))

    run(main)


def _query(
    organization: str | None, type_: str | None, subject: str | None, after: int | None, limit: int
) -> EventQuery:
    from slotwire.ingest.cli.acting import checked
    from slotwire.ingest.operate.models import EventQuery

    return checked(EventQuery, organization=organization, type=type_, subject=subject, after=after, limit=limit)


def _show(items: tuple[EventItem, ...], *, as_json: bool) -> None:
    from slotwire.ingest.cli.listing import show as show_items

    show_items(
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
    from slotwire.ingest.cli.listing import cell

    subject = item.subject.partition("//")[2].partition("/")[2]
    return f"{item.sequence}  {cell(item.time)}  {item.type}  {item.id}  {subject}"
