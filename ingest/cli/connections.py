"""Connect Calendly users by token or by a link; list, check and delete connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli import connect_links
from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, Organization
from slotwire.ingest.cli.token_file import TokenFile, read_token

if TYPE_CHECKING:
    from slotwire.ingest.operate.connection_models import ConnectionDetail, ConnectionItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Connect Calendly users by token or by a link; list, check and delete connections.",
)

for verb in (connect_links.link, connect_links.links, connect_links.withdraw_link, connect_links.exchange):
    app.command()(verb)

Id = Annotated[UUID, typer.Argument(help="The connection's id.")]

_NOTHING = "no connections yet: slotwire organizations add --token-file FILE"


@app.command("list")
def list_(*, organization: Organization = None, as_json: AsJson = False) -> None:
    """List connections in the state last seen, without their secrets."""
    from slotwire.ingest.operate.models import PageQuery

    found = list_items(
        "connections", lambda actions, who, query: actions.connections.list(who, organization, query), PageQuery
    )
    _show(found, as_json=as_json)


@app.command()
def show(*, connection: Id, as_json: AsJson = False) -> None:
    """Show one connection in the state last seen, and what it can do; `check` and `probe` ask Calendly."""
    _tell(act("connections", lambda actions, who: actions.connections.get(who, None, connection)), as_json=as_json)


@app.command()
def probe(*, connection: Id, as_json: AsJson = False) -> None:
    """Ask Calendly what a connection can do: scopes, plan and role, one read for each family of calls."""
    _tell(act("connections", lambda actions, who: actions.connections.probe(who, None, connection)), as_json=as_json)


@app.command()
def add(*, token_file: TokenFile, organization: Organization = None, as_json: AsJson = False) -> None:
    """Connect the user a token belongs to, or replace the token of a connected user.

    The token is stored encrypted. Its organization must be known already; `slotwire organizations add` does both.
    """
    from slotwire.ingest.operate.connection_models import ConnectionRequest

    request = checked(ConnectionRequest, token=read_token(token_file))
    made, new = act("connections", lambda actions, who: actions.connections.add(who, organization, request))
    if not as_json:
        typer.echo("connected" if new else "already connected; the new token replaces the old one", err=True)
    _show([made], as_json=as_json)


@app.command()
def check(*, connection: Id, as_json: AsJson = False) -> None:
    """Ask Calendly once whether a connection is still good; exits with 1 when it cannot act."""
    from slotwire.ingest.control.connection_records import ADD
    from slotwire.ingest.control.connection_states import ConnectionStatus

    found = act("connections", lambda actions, who: actions.connections.check(who, None, connection))
    _show([found], as_json=as_json)
    if not ConnectionStatus(found.state, found.reason).able:
        typer.echo(
            f"slotwire: it cannot act: {found.state} ({found.reason})\n  Connect its user again: {ADD}", err=True
        )
        raise typer.Exit(1)


@app.command()
def delete(*, connection: Id, as_json: AsJson = False) -> None:
    """Delete a credential. What a personal access token subscribed continues: revoke the token at Calendly too.

    An OAuth connection is disconnected: its subscriptions are replaced through another connection, or deleted, and then
    its token is revoked at Calendly.
    """
    gone = act("connections", lambda actions, who: actions.connections.delete(who, None, connection))
    if not as_json:
        typer.echo("deleted; it was:", err=True)
    _show([gone], as_json=as_json)


def _show(items: list[ConnectionItem], *, as_json: bool) -> None:

    print_items(
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


def _tell(item: ConnectionDetail, *, as_json: bool) -> None:

    if as_json:
        typer.echo(json_line(item))
        return
    for name, value in item:
        if name == "can":
            continue
        said = cell(" ".join(value) if isinstance(value, tuple) else value)
        typer.echo(f"{name.replace('_', ' '):<14}{said}")
    if item.can is None:
        typer.echo(f"{'can':<14}not asked yet: slotwire connections probe {item.id}")
        return
    typer.echo(f"{'plan':<14}{item.can.plan or '-'} ({item.can.stage or '-'}), asked {cell(item.can.probed_at)}")
    print_items(
        item.can.capabilities,
        {
            "CAN": lambda each: each.name,
            "READ": lambda each: _said(each.reads),
            "WRITE": lambda each: _said(each.writes),
            "WHY NOT": lambda each: each.why,
            "WHAT HELPS": lambda each: each.remedy,
        },
        as_json=False,
        nothing="nothing",
    )


def _said(able: bool | None) -> str:
    return "?" if able is None else "yes" if able else "no"
