"""Erase a person's data from everything that is stored, and end what agents do for them."""

from __future__ import annotations

from typing import Annotated

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import json_line, print_items
from slotwire.ingest.cli.options import AsJson

app = typer.Typer(add_completion=False)


@app.command()
def erase(
    *,
    organization: Annotated[
        str | None,
        typer.Argument(metavar="ORG", help="The last segment of Calendly's organization URI.", show_default=False),
    ] = None,
    email: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The person's e-mail address; - reads it from standard input, so that it is in no list of processes.",
            show_default=False,
        ),
    ] = None,
    invitee: Annotated[
        list[str] | None,
        typer.Option(metavar="URI", help="An invitee who is the person; may be repeated.", show_default=False),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Erase nothing: list erasures, newest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person's data from everything that is stored, and end what agents do for them. For ever.

    Safe to repeat. Records in Kafka stay until their topic's retention, and Calendly has its own copy:
    docs/howto/erase-a-person.md. Exits with 1 if it did not end.
    """
    if list_:
        _list(organization, as_json=as_json)
        return
    import sys

    from slotwire.ingest.operate.erasure_models import ErasureRequest

    address = sys.stdin.readline().strip() if email == "-" else email
    request = checked(ErasureRequest, organization=organization, email=address, invitees=tuple(invitee or ()))
    done = act("erase", lambda actions, who: actions.erasures.create(who, request))
    if as_json:
        typer.echo(json_line(done))
    elif done.report is not None:
        typer.echo(f"erased: {done.subjects} invitees, contacts and submissions")
        for name, count in done.report.model_dump().items():
            if count:
                typer.echo(f"  {name.replace('_', ' ')}: {count}")
    if done.state != "done":
        why = {
            "writer": "the relay has not written what was accepted before. Is one running? `slotwire doctor` tells.",
            "actions": "actions for the person are under way: slotwire actions list",
        }
        typer.echo(f"not ended: {why.get(done.waits_for or '', '')}", err=True)
        typer.echo("What comes in about the person loses its data already. Run the command again.", err=True)
        raise typer.Exit(1)


def _list(organization: str | None, *, as_json: bool) -> None:
    from slotwire.ingest.operate.erasure_models import ErasureQuery

    found = list_items(
        "erase",
        lambda actions, who, query: actions.erasures.list(who, query),
        ErasureQuery,
        organization=organization,
    )
    print_items(
        found,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "STATE": lambda item: item.state,
            "ASKED": lambda item: item.asked_at,
            "BY": lambda item: item.asked_by,
            "ENDED": lambda item: item.done_at,
            "SUBJECTS": lambda item: item.subjects,
        },
        as_json=as_json,
        nothing="no erasures",
    )
