"""Connect organizations, from a token to live events in one step, and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson
from slotwire.ingest.cli.token_file import TokenFile, read_token

if TYPE_CHECKING:
    from collections.abc import Sized

    from slotwire.ingest.control.backfill import BackfillProgress
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.organization_models import OrganizationAdded
    from slotwire.ingest.operate.roles import Principal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Connect organizations, from a token to live events in one step, and remove them.",
)

Named = Annotated[str, typer.Argument(metavar="ORG", help="The last segment of Calendly's organization URI.")]


@app.command()
def add(
    *,
    token_file: TokenFile,
    organization: Annotated[
        str | None,
        typer.Option(
            "--organization",
            metavar="ORG",
            help="The organization you mean; the token of another one is refused.",
            show_default=False,
        ),
    ] = None,
    external_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Your own name for it, if it has none yet; events carry it. `rename` changes it.",
            show_default=False,
        ),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help="An event by Calendly's name; may be repeated. When left out: the events wanted so far, or those of"
            " bookings and routing forms.",
            show_default=False,
        ),
    ] = None,
    max_age: Annotated[
        int | None,
        typer.Option(min=1, help="Quarantine deliveries signed more than this many seconds ago.", show_default=False),
    ] = None,
    backfill_days: Annotated[
        int | None,
        typer.Option(
            min=0, help="Also fetch meetings that started in the last so many days, or start later.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go from a token to live events: connect its user and subscribe the organization. Safe to repeat.

    If the token's role or scopes or the public address are not enough, one error names all that is missing, and
    nothing is stored.
    """
    from slotwire.ingest.operate.organization_models import OrganizationRequest

    request = checked(
        OrganizationRequest,
        token=read_token(token_file),
        organization=organization,
        external_id=external_id,
        events=tuple(event or ()),
        max_age_seconds=max_age,
        backfill_days=backfill_days,
    )

    async def work(actions: Actions, who: Principal) -> OrganizationAdded:
        added = await actions.organizations.add(who, request)
        if not as_json:
            _tell(added)
        if backfill_days is not None:
            await _backfill(actions, who, added.organization.organization)
        return added

    added = act("organizations", work)
    if as_json:
        typer.echo(json_line(added))


@app.command("list")
def list_(
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Include removed organizations.")] = False,
    as_json: AsJson = False,
) -> None:
    """List organizations, ordered by name."""
    from slotwire.ingest.operate.organization_models import OrganizationQuery

    found = list_items(
        "organizations",
        lambda actions, who, query: actions.organizations.list(who, query),
        OrganizationQuery,
        ended=ended,
    )
    print_items(
        found,
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
    """Show one organization, its wanted subscriptions, and when its meetings were last compared."""
    found = act("organizations", lambda actions, who: actions.organizations.get(who, organization))
    if as_json:
        typer.echo(json_line(found))
        return
    for name in type(found).model_fields:
        if name not in {"wanted", "connections", "compared"}:
            typer.echo(f"{name + ':':<15}{cell(getattr(found, name))}")
    typer.echo(f"{'connections:':<15}{', '.join(found.connections) or 'none'}")
    for want in found.wanted:
        whose = f"{want.scope} {want.subject}" if want.subject else want.scope
        typer.echo(f"{'wanted:':<15}{whose}: {', '.join(want.events)}")
    if (last := found.compared) is not None:
        took = f"{last.meetings} meetings, {last.calls} calls, {last.changes} changes"
        why = f", {last.attempts} failures in a row: {last.problem}" if last.problem else ""
        when = "not yet" if last.ended_at is None else cell(last.ended_at)
        typer.echo(f"{'compared:':<15}{when}: {took}; next {cell(last.due_at)}{why}")


@app.command()
def rename(
    *,
    organization: Named,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Your own name for it; events carry it.", show_default=False)
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Take its name away.")] = False,
    as_json: AsOneJson = False,
) -> None:
    """Change your own name for an organization. Events that are written later carry it."""
    from slotwire.ingest.operate.organization_models import RenameRequest

    if (name is None) != none:
        raise typer.BadParameter("give a NAME, or --none")
    request = checked(RenameRequest, external_id=name)
    found = act("organizations", lambda actions, who: actions.organizations.rename(who, organization, request))
    typer.echo(json_line(found) if as_json else f"{found.organization} is {found.external_id or 'without a name'} now")


@app.command()
def remove(
    *,
    organization: Named,
    force: Annotated[
        bool, typer.Option("--force", help="Also forget subscriptions that Calendly did not end.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="First revoke its signing keys: nothing more is accepted from then on.")
    ] = False,
    as_json: AsOneJson = False,
) -> None:
    """Remove an organization: end its subscriptions at Calendly, then delete its credentials. Its history stays.

    Its addresses stay valid for 48 h, for deliveries still on their way; with --now they refuse everything at once.
    Exits with 1 while Calendly may still have a subscription of it.
    """
    done = act(
        "organizations", lambda actions, who: actions.organizations.remove(who, organization, force=force, at_once=now)
    )
    if as_json:
        typer.echo(json_line(done))
    else:
        typer.echo(
            f"ended {_counted(done.ended, 'subscription')} at Calendly,"
            f" deleted {_counted(done.connections, 'credential')}, revoked {_counted(done.keys, 'key')}"
        )
        if now:
            typer.echo(f"revoked {_counted(done.signing_keys, 'signing key')}: nothing more is accepted")
        for item in done.left:
            typer.echo(f"left at Calendly: {item.provider_uri or item.id}: {item.why}", err=True)
        if done.left and not force:
            typer.echo("Nothing was deleted. Run it again, or use --force to delete it all the same.", err=True)
    if done.left:
        raise typer.Exit(1)


def _counted(items: Sized, what: str) -> str:
    return f"{len(items)} {what}" + ("" if len(items) == 1 else "s")


def _tell(added: OrganizationAdded) -> None:
    whose = added.organization.external_id or added.organization.organization
    typer.echo(f"{whose} is live" + ("" if added.new else " already; no subscription was made"), err=True)
    for item in added.subscriptions:
        typer.echo(f"{item.scope:<13}{item.id}  {', '.join(item.events)}")


async def _backfill(actions: Actions, who: Principal, org: str) -> None:
    """Fetch the meetings that Calendly has; a terminal shows the progress. If cut off, `slotwire control` goes on."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("fetching meetings") as status:

        def report(filled: BackfillProgress) -> None:
            status.update(f"fetching meetings: {filled.meetings} read, {filled.invitees} invitees, {filled.new} new")

        filled = await actions.organizations.backfill(who, org, report)
    if filled is None:
        console.print("slotwire control has fetched them meanwhile")
        return
    skipped = f", {filled.skipped} skipped: slotwire quarantine list" if filled.skipped else ""
    unwritten = f", {filled.unwritten} accepted at {filled.accepted_at}, not yet written" if filled.unwritten else ""
    console.print(
        f"fetched {filled.meetings} meetings with {filled.invitees} invitees: {filled.new} new,"
        f" {filled.known} known{skipped}{unwritten}",
        soft_wrap=True,
    )
    if filled.unreadable.count:
        console.print(f"{filled.unreadable.count} could not be read at Calendly and were left out:", soft_wrap=True)
        for uri, why in filled.unreadable.named.items():
            console.print(f"  {uri}  ({why})", soft_wrap=True, markup=False, highlight=False)
    if filled.unwritten:
        goes_on = "" if filled.complete else "; slotwire control fetches the rest then"
        console.print(f"Is a relay running? `slotwire doctor` tells{goes_on}.", soft_wrap=True)
