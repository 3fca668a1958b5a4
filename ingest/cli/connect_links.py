"""Commands of `slotwire connections` for links under which customers connect their Calendly in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import json_line, print_items
from slotwire.ingest.cli.options import AsJson, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.connect_link_models import ConnectLinkItem

LinkId = Annotated[UUID, typer.Argument(help="The link's id.", metavar="ID")]


def link(
    *,
    organization: Organization = None,
    external_id: Annotated[
        str | None, typer.Option(help="Your own name for a customer whose organization is not known yet.")
    ] = None,
    customer: Annotated[str | None, typer.Option(help="How the page names the customer.")] = None,
    return_url: Annotated[
        str | None, typer.Option(help="Where the browser goes with a one-time code for your backend.")
    ] = None,
    life_seconds: Annotated[int, typer.Option(help="How long it is good; at most 604800, 7 days.")] = 600,
    backfill_days: Annotated[
        int | None, typer.Option(help="Once it is connected, fetch meetings from so many days ago on.")
    ] = 30,
    as_json: AsJson = False,
) -> None:
    """Make a link under which a customer connects their Calendly in the browser, and print its address, once."""
    from slotwire.ingest.operate.connect_link_models import ConnectLinkRequest

    request = checked(
        ConnectLinkRequest,
        organization=organization,
        external_id=external_id,
        customer=customer,
        return_url=return_url,
        life_seconds=life_seconds,
        backfill_days=backfill_days,
    )
    made = act("connections", lambda actions, who: actions.connect_links.create(who, request))
    if as_json:
        typer.echo(json_line(made))
        return
    typer.echo(
        f"link {made.id}, until {made.expires_at:%Y-%m-%d %H:%M:%S} UTC; send it to the customer only:", err=True
    )
    typer.echo(made.url)


def links(*, organization: Organization = None, as_json: AsJson = False) -> None:
    """List links, without their addresses."""
    from slotwire.ingest.operate.connect_link_models import ConnectLinkQuery

    found = list_items(
        "connections",
        lambda actions, who, query: actions.connect_links.list(who, query),
        ConnectLinkQuery,
        organization=organization,
    )
    _show(found, as_json=as_json)


def withdraw_link(*, link: LinkId, as_json: AsJson = False) -> None:
    """End a link before its time."""
    _show([act("connections", lambda actions, who: actions.connect_links.withdraw(who, link))], as_json=as_json)


def exchange(
    *,
    link: LinkId,
    code: Annotated[str, typer.Option(help="`connect_code`, as it came to the return address.")],
    as_json: AsJson = False,
) -> None:
    """Present the code that came to the return address, as your backend does, and go live."""
    from slotwire.ingest.operate.connect_link_models import CodeRequest

    request = checked(CodeRequest, code=code)
    live = act("connections", lambda actions, who: actions.connect_links.exchange(who, link, request))
    if as_json:
        typer.echo(json_line(live))
        return
    typer.echo(f"connected {live.organization}; subscribed: {'yes' if live.subscribed else 'not yet'}")


def _show(items: list[ConnectLinkItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "CUSTOMER": lambda item: item.customer or item.external_id,
            "STATE": lambda item: item.state,
            "EXPIRES": lambda item: item.expires_at,
            "CONNECTION": lambda item: item.connection_id,
        },
        as_json=as_json,
        nothing="no links yet: slotwire connections link --organization ORG",
    )
