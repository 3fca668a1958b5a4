"""Make, list and end webhook subscriptions at Calendly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import json_line, print_items
from slotwire.ingest.cli.options import AsJson, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.finding_models import PlacesResumed, SubscriptionFindings
    from slotwire.ingest.operate.roles import Principal
    from slotwire.ingest.operate.subscription_models import SubscriptionItem

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make, list and end webhook subscriptions at Calendly."
)

OneOrganization = Annotated[
    str | None,
    typer.Option(
        "--organization",
        help="The last segment of Calendly's organization URI. Not needed if you have only one organization.",
        show_default=False,
    ),
]


@app.command()
def create(
    *,
    organization: OneOrganization = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            help="An event by Calendly's name; may be repeated. When left out: those of bookings and routing forms."
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="URI", help="Only for this user of the organization.", show_default=False)
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Only for this group of hosts of the organization.", show_default=False),
    ] = None,
    max_age: Annotated[
        int | None,
        typer.Option(min=1, help="Quarantine deliveries signed more than this many seconds ago.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Subscribe an organization, or one user or group of it, with the organization's connection. Safe to repeat.

    Other events than before replace the subscription there; the new one is made before the old one is ended.
    """
    from slotwire.ingest.operate.subscription_models import SubscriptionRequest

    request = checked(SubscriptionRequest, events=tuple(event or ()), user=user, group=group, max_age_seconds=max_age)

    async def work(actions: Actions, who: Principal) -> tuple[SubscriptionItem, bool]:
        org = await actions.organizations.named(who, organization)
        return await actions.subscriptions.create(who, org, request)

    made, new = act("subscriptions", work)
    if not as_json:
        typer.echo("subscribed" if new else "already subscribed; nothing was changed", err=True)
    _show([made], as_json=as_json)


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    at_calendly: Annotated[
        bool, typer.Option("--at-calendly", help="Ask Calendly about those not ended, and show its answer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List subscriptions, including ended ones."""
    from slotwire.ingest.operate.subscription_models import SubscriptionQuery

    found = list_items(
        "subscriptions",
        lambda actions, who, query: actions.subscriptions.list(who, organization, query),
        SubscriptionQuery,
        at_calendly=at_calendly,
    )
    _show(found, as_json=as_json)


@app.command()
def check(*, organization: OneOrganization = None, as_json: AsJson = False) -> None:
    """Ask Calendly what is wrong with an organization's subscriptions, and show what mends it. Changes nothing.

    Exits with 1 when something waits for you; `slotwire control` does the rest by itself.
    """

    async def work(actions: Actions, who: Principal) -> SubscriptionFindings:
        return await actions.subscriptions.findings(who, await actions.organizations.named(who, organization))

    found = act("subscriptions", work)
    print_items(
        found.findings,
        {
            "FINDING": lambda item: item.finding.value,
            "SCOPE": lambda item: f"{item.scope} {item.subject}" if item.subject else item.scope,
            "SUBSCRIPTION": lambda item: item.subscription_id or item.provider_uri,
            "SINCE": lambda item: item.since,
            "BY ITSELF": lambda item: "yes" if item.applied else "no",
            "EVENTS": lambda item: ",".join(item.events),
            "REMEDY": lambda item: item.advice,
        },
        as_json=as_json,
        nothing="all subscriptions are as wanted",
    )
    if not all(item.applied for item in found.findings):
        raise typer.Exit(1)


@app.command()
def resume(*, organization: OneOrganization = None, as_json: AsJson = False) -> None:
    """Make subscriptions again that were gone again and again. First find out who or what deletes them."""

    async def work(actions: Actions, who: Principal) -> PlacesResumed:
        return await actions.subscriptions.resume(who, await actions.organizations.named(who, organization))

    done = act("subscriptions", work)
    typer.echo(
        json_line(done)
        if as_json
        else f"{done.organization}: {done.resumed} wanted subscriptions are made again by the next round"
    )


@app.command("confirm-deletions")
def confirm_deletions(*, as_json: AsJson = False) -> None:
    """Let Slotwire delete subscriptions at Calendly again, after this database was restored, copied or failed over.

    First make sure that no other installation uses the same subscriptions.
    """
    done = act("subscriptions", lambda actions, who: actions.subscriptions.confirm_deletions(who))
    said = "deletions are carried out from now on" if done.changed else "deletions were carried out already"
    typer.echo(json_line(done) if as_json else said)


@app.command()
def delete(
    *,
    subscription: Annotated[UUID, typer.Argument(help="The subscription's id.")],
    now: Annotated[
        bool, typer.Option("--now", help="First revoke its signing keys: nothing more is accepted from then on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """End a subscription, at Calendly first. Its address stays valid for 48 h, for deliveries still on their way."""
    ended = act(
        "subscriptions", lambda actions, who: actions.subscriptions.delete(who, None, subscription, at_once=now)
    )
    _show([ended], as_json=as_json)


def _show(items: list[SubscriptionItem], *, as_json: bool) -> None:

    print_items(
        items,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "SCOPE": lambda item: f"{item.scope} {item.subject}" if item.subject else item.scope,
            "STATE": lambda item: item.state,
            "AT CALENDLY": lambda item: item.at_calendly and item.at_calendly.state,
            "RETRYING SINCE": lambda item: item.at_calendly and item.at_calendly.retry_started_at,
            "CREATED": lambda item: item.created_at,
            "EVENTS": lambda item: ",".join(item.events),
        },
        as_json=as_json,
        nothing="no subscriptions yet: slotwire organizations add --token-file FILE",
    )
