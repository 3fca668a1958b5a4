"""Create, list and delete webhook subscriptions at Calendly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ingest.cli.token_file import TokenFile, read_token

if TYPE_CHECKING:
    from ingest.operate.actions import Actions
    from ingest.operate.models import SubscriptionItem

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Create, list and delete webhook subscriptions at Calendly."
)

OptionalTokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds a Calendly token, to ask Calendly too; - reads it from standard input.",
        show_default=False,
    ),
]
Organization = Annotated[
    str | None,
    typer.Option("--organization", help="The last segment of Calendly's organization URI.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command()
def create(
    *,
    token_file: TokenFile,
    organization: Organization = None,
    event: Annotated[
        list[str] | None, typer.Option(help="An event as Calendly names it; may be repeated. All when left out.")
    ] = None,
    external_id: Annotated[
        str | None, typer.Option(help="Your own name for the organization.", show_default=False)
    ] = None,
    max_age: Annotated[
        int | None, typer.Option(min=1, help="Quarantine deliveries signed longer ago, in seconds.", show_default=False)
    ] = None,
    another: Annotated[bool, typer.Option("--another", help="Make one even where one does this already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Subscribe the token's organization; doing it twice makes one.

    The token is used for this and kept nowhere.
    """
    from ingest.cli.acting import act, checked
    from ingest.operate.models import SubscriptionRequest
    from ingest.operate.roles import COMMAND_LINE

    request = checked(
        SubscriptionRequest,
        token=read_token(token_file),
        events=tuple(event or ()),
        external_id=external_id,
        max_age_seconds=max_age,
        another=another,
    )
    made, new = act("subscriptions", lambda actions: actions.subscriptions.create(COMMAND_LINE, organization, request))
    if not as_json:
        typer.echo("subscribed" if new else "subscribed already; nothing was changed", err=True)
    _show([made], as_json=as_json)


@app.command("list")
def list_(*, organization: Organization = None, token_file: OptionalTokenFile = None, as_json: AsJson = False) -> None:
    """List subscriptions; with a token, beside what Calendly says of them."""
    from ingest.cli.acting import act
    from ingest.operate.cursors import MAX_PAGE
    from ingest.operate.models import PageQuery
    from ingest.operate.roles import COMMAND_LINE

    token = None if token_file is None else read_token(token_file)

    async def all_pages(actions: Actions) -> list[SubscriptionItem]:
        found: list[SubscriptionItem] = []
        cursor = None
        while True:
            query = PageQuery(limit=MAX_PAGE, cursor=cursor)
            page = await actions.subscriptions.list(COMMAND_LINE, organization, query, token)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found

    _show(act("subscriptions", all_pages), as_json=as_json)


@app.command()
def delete(
    *, subscription: Annotated[UUID, typer.Argument(help="Its id.")], token_file: TokenFile, as_json: AsJson = False
) -> None:
    """End a subscription, at Calendly first. Its address stays valid for 48 h, for what is still on its way."""
    from ingest.cli.acting import act
    from ingest.operate.roles import COMMAND_LINE

    token = read_token(token_file)
    ended = act("subscriptions", lambda actions: actions.subscriptions.delete(COMMAND_LINE, None, subscription, token))
    _show([ended], as_json=as_json)


def _show(items: list[SubscriptionItem], *, as_json: bool) -> None:
    from ingest.cli.listing import show

    show(
        items,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "STATE": lambda item: item.state,
            "AT CALENDLY": lambda item: item.at_calendly and item.at_calendly.state,
            "RETRYING SINCE": lambda item: item.at_calendly and item.at_calendly.retry_started_at,
            "CREATED": lambda item: item.created_at,
            "EVENTS": lambda item: ",".join(item.events),
        },
        as_json=as_json,
        nothing="no subscriptions yet: slotwire subscriptions create --token-file FILE",
    )
