"""Connect organizations: from a token to live events in one step, and back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from slotwire.ingest.cli.token_file import TokenFile, read_token

if TYPE_CHECKING:
    from collections.abc import Sized

    from slotwire.ingest.control.backfill import BackfillProgress
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.organization_models import OrganizationAdded, OrganizationItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Connect organizations: from a token to live events in one step, and back.",
)

Named = Annotated[str, typer.Argument(metavar="ORG", help="The last segment of Calendly's organization URI.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
AsOneJson = Annotated[bool, typer.Option("--json", help="Print it on one line of JSON.")]


@app.command()
def add(
    *,
    token_file: TokenFile,
    organization: Annotated[
        str | None,
        typer.Option(
            "--organization", metavar="ORG", help="The one you mean: another's token is refused.", show_default=False
        ),
    ] = None,
    external_id: Annotated[
        str | None, typer.Option(metavar="NAME", help="Your own name for it; events carry it.", show_default=False)
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help="An event as Calendly names it; may be repeated. When left out: as before, or bookings and routing"
            " forms.",
            show_default=False,
        ),
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(min=1, help="Quarantine deliveries signed longer ago, in seconds.", show_default=False)
    ] = None,
    backfill_days: Annotated[
        int | None,
        typer.Option(
            min=0, help="Fetch what was booked before, too: meetings from so many days ago on.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """From a token to live events: connect its user, subscribe the organization; twice makes one.

    What is missing is said all at once, before anything is kept: role, scopes, address.
    """
    from slotwire.ingest.cli.acting import act, checked
    from slotwire.ingest.operate.organization_models import OrganizationRequest
    from slotwire.ingest.operate.roles import COMMAND_LINE

    request = checked(
        OrganizationRequest,
        token=read_token(token_file),
        organization=organization,
        external_id=external_id,
        events=tuple(event or ()),
        max_age_seconds=max_age,
        backfill_days=backfill_days,
    )

    async def work(actions: Actions) -> OrganizationAdded:
        added = await actions.organizations.add(COMMAND_LINE, request)
        if not as_json:
            _tell(added)
        if backfill_days is not None:
            await _backfill(actions, added.organization.organization)
        return added

    added = act("organizations", work)
    if as_json:
        from slotwire.ingest.cli.listing import json_line

        typer.echo(json_line(added))


@app.command("list")
def list_(
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Those that were given up, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List organizations by name."""
    from slotwire.ingest.cli.acting import act, every_item
    from slotwire.ingest.cli.listing import show as show_items
    from slotwire.ingest.operate.cursors import MAX_PAGE
    from slotwire.ingest.operate.organization_models import OrganizationQuery
    from slotwire.ingest.operate.roles import COMMAND_LINE

    async def all_pages(actions: Actions) -> list[OrganizationItem]:
        return await every_item(
            partial(actions.organizations.list, COMMAND_LINE), OrganizationQuery(limit=MAX_PAGE, ended=ended)
        )

    show_items(
        act("organizations", all_pages),
        {
            "ORGANIZATION": lambda item: item.organization,
            "EXTERNAL ID": lambda item: item.external_id,
            "SUBSCRIPTIONS": lambda item: item.subscriptions,
            "CONNECTIONS": lambda item: ",".join(item.connections) or "none",
            "SINCE": lambda item: item.created_at,
            "ENDED": lambda item: item.ended_at,
        },
        as_json=as_json,
        nothing="no organizations yet: slotwire organizations add --token-file FILE",
    )


@app.command()
def show(
    *,
    organization: Named,
    as_json: AsOneJson = False,
) -> None:
    """Show one organization, and what shall be subscribed to."""
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.cli.listing import cell, json_line
    from slotwire.ingest.operate.roles import COMMAND_LINE

    found = act("organizations", lambda actions: actions.organizations.get(COMMAND_LINE, organization))
    if as_json:
        typer.echo(json_line(found))
        return
    for name in type(found).model_fields:
        if name not in {"wanted", "connections"}:
            typer.echo(f"{name + ':':<15}{cell(getattr(found, name))}")
    typer.echo(f"{'connections:':<15}{', '.join(found.connections) or 'none'}")
    for wish in found.wanted:
        whose = f"{wish.scope} {wish.subject}" if wish.subject else wish.scope
        typer.echo(f"{'wanted:':<15}{whose}: {', '.join(wish.events)}")


@app.command()
def remove(
    *,
    organization: Named,
    force: Annotated[bool, typer.Option("--force", help="Forget also what Calendly would not end.")] = False,
    as_json: AsOneJson = False,
) -> None:
    """Give an organization up: its subscriptions at Calendly first, then its credentials. Its history stays.

    Ends with 1 while Calendly may still have something of it.
    """
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.cli.listing import json_line
    from slotwire.ingest.operate.roles import COMMAND_LINE

    done = act("organizations", lambda actions: actions.organizations.remove(COMMAND_LINE, organization, force=force))
    if as_json:
        typer.echo(json_line(done))
    else:
        typer.echo(
            f"ended {_counted(done.ended, 'subscription')} at Calendly,"
            f" forgot {_counted(done.connections, 'credential')}, revoked {_counted(done.keys, 'key')}"
        )
        for item in done.left:
            typer.echo(f"left at Calendly: {item.provider_uri or item.id}: {item.why}", err=True)
        if done.left and not force:
            typer.echo("Nothing was forgotten. Run it again, or with --force to forget it all the same.", err=True)
    if done.left:
        raise typer.Exit(1)


def _counted(items: Sized, what: str) -> str:
    return f"{len(items)} {what}" + ("" if len(items) == 1 else "s")


def _tell(added: OrganizationAdded) -> None:
    whose = added.organization.external_id or added.organization.organization
    typer.echo(f"{whose} is live" + ("" if added.new else " already; nothing was subscribed anew"), err=True)
    for item in added.subscriptions:
        typer.echo(f"{item.scope:<13}{item.id}  {', '.join(item.events)}")


async def _backfill(actions: Actions, org: str) -> None:
    """Fetch what Calendly has; a terminal shows how far it is. Interrupted, `slotwire control` does the rest."""
    from rich.console import Console

    from slotwire.ingest.operate.roles import COMMAND_LINE

    console = Console(stderr=True)
    with console.status("fetching meetings") as status:

        def report(filled: BackfillProgress) -> None:
            status.update(f"fetching meetings: {filled.meetings} read, {filled.invitees} invitees, {filled.new} new")

        filled = await actions.organizations.backfill(COMMAND_LINE, org, report)
    if filled is None:
        console.print("fetched by slotwire control meanwhile")
        return
    skipped = f", {filled.skipped} skipped (the log says why)" if filled.skipped else ""
    console.print(
        f"fetched {filled.meetings} meetings with {filled.invitees} invitees; facts: {filled.new} new,"
        f" {filled.known} known{skipped}"
    )
