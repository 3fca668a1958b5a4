"""Look at webhook subscriptions of agents of MCP, and end them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.mcp_subscription_models import McpSubscriptionItem

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Webhook subscriptions that agents have made by MCP Events."
)
Subscription = Annotated[
    UUID, typer.Argument(help="The subscription's id, as deliveries have it in `X-MCP-Subscription-Id`.")
]


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    agent: Annotated[UUID | None, typer.Option(help="Only those of this agent, by its id.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Only those in this state: active, failing, suspended or ended.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List subscriptions: how far each has come, what waits, and why the last try failed. Without secrets."""
    from slotwire.ingest.operate.mcp_subscription_models import McpSubscriptionQuery

    found = list_items(
        "mcp",
        lambda actions, who, query: actions.mcp_subscriptions.list(who, query),
        McpSubscriptionQuery,
        organization=organization,
        agent_id=agent,
        state=state,
    )
    _print(found, as_json=as_json)


@app.command()
def show(*, subscription: Subscription, as_json: AsOneJson = False) -> None:
    """Show all of one subscription but its secret and its address."""
    found = act("mcp", lambda actions, who: actions.mcp_subscriptions.get(who, subscription))
    if as_json:
        typer.echo(json_line(found))
        return
    for name, value in found.model_dump(mode="json").items():
        typer.echo(f"{name.replace('_', ' ')}: {'' if value is None else cell(value)}")


@app.command()
def end(*, subscription: Subscription, as_json: AsJson = False) -> None:
    """End a subscription: nothing more is sent. Its host is told where it understands that, and may subscribe again."""
    ended = act("mcp", lambda actions, who: actions.mcp_subscriptions.delete(who, subscription))
    _print([ended], as_json=as_json)


def _print(items: list[McpSubscriptionItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "ID": lambda item: item.id,
            "AGENT": lambda item: item.agent_name,
            "ORGANIZATION": lambda item: item.organization,
            "EVENTS": lambda item: item.event_type,
            "HOST": lambda item: item.host,
            "STATE": lambda item: item.state,
            "WATERMARK": lambda item: item.watermark,
            "LAG": lambda item: f"{item.lag_seconds} s" if item.lag_seconds else "",
            "LAST ERROR": lambda item: item.last_error,
            "SINCE": lambda item: item.failed_since,
            "EXPIRES": lambda item: item.expires_at,
        },
        as_json=as_json,
        nothing="no agent has subscribed to anything",
    )
