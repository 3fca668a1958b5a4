"""Connect Calendly users by token; list, check and forget connections."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli.token_file import TokenFile, read_token

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.connection_models import ConnectionItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Connect Calendly users by token; list, check and forget connections.",
)

Organization = Annotated[
    str | None,
    typer.Option("--organization", help="The last segment of Calendly's organization URI.", show_default=False),
]
Id = Annotated[UUID, typer.Argument(help="Its id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

_NOTHING = "no connections yet: slotwire organizations add --token-file FILE"


@app.command("list")
def list_(*, organization: Organization = None, as_json: AsJson = False) -> None:
    """List connections as they were last known, without their secrets."""
    from slotwire.ingest.cli.acting import act, every_item
    from slotwire.ingest.operate.cursors import MAX_PAGE
    from slotwire.ingest.operate.models import PageQuery
    from slotwire.ingest.operate.roles import COMMAND_LINE

    async def all_pages(actions: Actions) -> list[ConnectionItem]:
        return await every_item(
            partial(actions.connections.list, COMMAND_LINE, organization), PageQuery(limit=MAX_PAGE)
        )

    _show(act("connections", all_pages), as_json=as_json)


@app.command()
def show(*, connection: Id, as_json: AsJson = False) -> None:
    """Show one connection as it was last known; `check` asks Calendly."""
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.operate.roles import COMMAND_LINE

    _tell(act("connections", lambda actions: actions.connections.get(COMMAND_LINE, None, connection)), as_json=as_json)


@app.command()
def add(*, token_file: TokenFile, organization: Organization = None, as_json: AsJson = False) -> None:
    """Connect the user a token belongs to, or give a connected user the token anew.

    The token is kept sealed. Its organization must be known: slotwire organizations add does both.
    """
    from slotwire.ingest.cli.acting import act, checked
    from slotwire.ingest.operate.connection_models import ConnectionRequest
    from slotwire.ingest.operate.roles import COMMAND_LINE

    request = checked(ConnectionRequest, token=read_token(token_file))
    made, new = act("connections", lambda actions: actions.connections.add(COMMAND_LINE, organization, request))
    if not as_json:
        typer.echo("connected" if new else "connected already; the token replaces the one before", err=True)
    _show([made], as_json=as_json)


@app.command()
def check(*, connection: Id, as_json: AsJson = False) -> None:
    """Ask Calendly once whether a connection is still good; exits with 1 when it cannot act."""
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.control.connection_records import ADD
    from slotwire.ingest.control.connection_states import ConnectionStatus
    from slotwire.ingest.operate.roles import COMMAND_LINE

    found = act("connections", lambda actions: actions.connections.check(COMMAND_LINE, None, connection))
    _show([found], as_json=as_json)
    if not ConnectionStatus(found.state, found.reason).able:
        typer.echo(f"slotwire: it cannot act: {found.state} ({found.reason})\n  Connect its user anew: {ADD}", err=True)
        raise typer.Exit(1)


@app.command()
def delete(*, connection: Id, as_json: AsJson = False) -> None:
    """Forget a credential. What was subscribed with it goes on; revoke the token at Calendly too."""
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.operate.roles import COMMAND_LINE

    gone = act("connections", lambda actions: actions.connections.delete(COMMAND_LINE, None, connection))
    if not as_json:
        typer.echo("forgotten; it was:", err=True)
    _show([gone], as_json=as_json)


def _show(items: list[ConnectionItem], *, as_json: bool) -> None:
    from slotwire.ingest.cli.listing import show as show_all

    show_all(
        items,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "USER": lambda item: item.user_uri.rpartition("/")[2],
            "ROLE": lambda item: item.role,
            "STATE": lambda item: item.state,
            "REASON": lambda item: item.reason,
            "EXPIRES": lambda item: item.expires_at,
            "CHECKED": lambda item: item.checked_at,
        },
        as_json=as_json,
        nothing=_NOTHING,
    )


def _tell(item: ConnectionItem, *, as_json: bool) -> None:
    from slotwire.ingest.cli.listing import cell, json_line

    if as_json:
        typer.echo(json_line(item))
        return
    for name, value in item:
        said = " ".join(value) if isinstance(value, tuple) else cell(value)
        typer.echo(f"{name.replace('_', ' '):<14}{said}")
