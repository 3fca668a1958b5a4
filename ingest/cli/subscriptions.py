"""Make, list and end webhook subscriptions at Calendly."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.subscription_models import SubscriptionItem

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Make, list and end webhook subscriptions at Calendly."
)

Organization = Annotated[
    str | None,
    typer.Option(
        "--organization",
        help="The last segment of Calendly's organization URI; not needed where there is one only.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command()
def create(
    *,
    organization: Organization = None,
    event: Annotated[
        list[str] | None,
        typer.Option(help="An event as Calendly names it; may be repeated. When left out: bookings and routing forms."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="URI", help="For one user of it only.", show_default=False)
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="URI", help="For one group of hosts of it only.", show_default=False)
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(min=1, help="Quarantine deliveries signed longer ago, in seconds.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Subscribe an organization, or a user or group of it, with its connection; twice makes one.

    It takes the place of what was wanted there before: the new one is made first.
    """
    from slotwire.ingest.cli.acting import act, checked
    from slotwire.ingest.operate.roles import COMMAND_LINE
    from slotwire.ingest.operate.subscription_models import SubscriptionRequest

    request = checked(SubscriptionRequest, events=tuple(event or ()), user=user, group=group, max_age_seconds=max_age)

    async def work(actions: Actions) -> tuple[SubscriptionItem, bool]:
        org = await actions.organizations.named(COMMAND_LINE, organization)
        return await actions.subscriptions.create(COMMAND_LINE, org, request)

    made, new = act("subscriptions", work)
    if not as_json:
        typer.echo("subscribed" if new else "subscribed already; nothing was changed", err=True)
    _show([made], as_json=as_json)


@app.command("list")
def list_(
    *,
    organization: Annotated[
        str | None,
        typer.Option("--organization", help="The last segment of Calendly's organization URI.", show_default=False),
    ] = None,
    at_calendly: Annotated[
        bool, typer.Option("--at-calendly", help="Ask Calendly about those not ended, and show what it says.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List subscriptions, ended ones too."""
    from slotwire.ingest.cli.acting import act, every_item
    from slotwire.ingest.operate.cursors import MAX_PAGE
    from slotwire.ingest.operate.roles import COMMAND_LINE
    from slotwire.ingest.operate.subscription_models import SubscriptionQuery

    async def all_pages(actions: Actions) -> list[SubscriptionItem]:
        return await every_item(
            partial(actions.subscriptions.list, COMMAND_LINE, organization),
            SubscriptionQuery(limit=MAX_PAGE, at_calendly=at_calendly),
        )

    _show(act("subscriptions", all_pages), as_json=as_json)


@app.command()
def delete(*, subscription: Annotated[UUID, typer.Argument(help="Its id.")], as_json: AsJson = False) -> None:
    """End a subscription, at Calendly first. Its address stays valid for 48 h, for what is still on its way."""
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.operate.roles import COMMAND_LINE

    ended = act("subscriptions", lambda actions: actions.subscriptions.delete(COMMAND_LINE, None, subscription))
    _show([ended], as_json=as_json)


def _show(items: list[SubscriptionItem], *, as_json: bool) -> None:
    from slotwire.ingest.cli.listing import show

    show(
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
