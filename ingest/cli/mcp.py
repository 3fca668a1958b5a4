"""Serve agents by the Model Context Protocol, and register them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli import mcp_subscriptions
from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.mcp_agent_models import McpAgentItem
    from slotwire.ingest.operate.roles import Principal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Serve agents by the Model Context Protocol, and register them.",
)
agents = typer.Typer(no_args_is_help=True, add_completion=False, help="Agents that may reach Slotwire by MCP.")
app.add_typer(agents, name="agents")
app.add_typer(mcp_subscriptions.app, name="subscriptions")

Name = Annotated[str, typer.Argument(help="The agent's name.")]


@app.command()
def serve() -> None:
    """Serve agents by the Model Context Protocol. Needs Postgres, and `slotwire control` for calls to Calendly."""
    import asyncio

    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.health import Health, serving_health
    from slotwire.ingest.foundation.lifecycle import run
    from slotwire.ingest.foundation.log_output import configure_logging
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.tracing import configure_tracing
    from slotwire.ingest.mcp.process import run_mcp

    settings = load_settings()
    configure_logging(settings.log, process="mcp")
    configure_tracing(settings.traces, process="mcp")

    async def main(stop: asyncio.Event) -> None:
        health = Health("mcp")
        async with serving_health(health, settings.health):
            await run_mcp(settings, stop, health=health, clock=clock_of(settings))

    run(main)


@agents.command()
def add(  # noqa: PLR0913 - options of a command
    *,
    name: Name,
    organization: Annotated[
        list[str] | None,
        typer.Option("--organization", help="An organization whose users it may act for; once for each."),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", help="The URI of a user it may act for; once for each. All users when left out."),
    ] = None,
    tools: Annotated[
        str, typer.Option(help="Tools by name, or presets (read, schedule, operate), separated by commas.")
    ] = "read",
    event_types: Annotated[
        str, typer.Option("--event-types", help="Types of events, separated by commas. All when left out.")
    ] = "",
    profile: Annotated[
        str, typer.Option(help="How its host speaks MCP Events: draft (October 2026), chatgpt, or final.")
    ] = "draft",
    label: Annotated[str, typer.Option(help="What it is for.", show_default=False)] = "",
    runs_of: Annotated[
        str | None,
        typer.Option(
            "--runs-of",
            help="An agent of yours: runs of its handlers may get tokens, each for its booking and while it runs.",
        ),
    ] = None,
    as_json: AsOneJson = False,
) -> None:
    """Register an agent and print its secret, this once, on standard output. Only its hash is stored."""
    from slotwire.ingest.operate.mcp_agent_models import McpAgentRequest

    request = checked(
        McpAgentRequest,
        name=name,
        organizations=tuple(organization or ()),
        users=tuple(user or ()),
        tools=_names(tools),
        event_types=_names(event_types),
        profile=profile,
        label=label,
        runs_of=runs_of,
    )
    made = act("mcp", lambda actions, who: actions.mcp_agents.create(who, request))
    if as_json:
        typer.echo(json_line(made))
        return
    typer.echo(f"agent {made.name} has {len(made.tools)} tools; its secret is shown only this once:", err=True)
    typer.echo(made.secret)


@agents.command("list")
def list_(*, organization: Organization = None, as_json: AsJson = False) -> None:
    """List agents, without their secrets."""
    from slotwire.ingest.operate.mcp_agent_models import McpAgentQuery

    found = list_items(
        "mcp",
        lambda actions, who, query: actions.mcp_agents.list(who, query),
        McpAgentQuery,
        organization=organization,
    )
    _print(found, as_json=as_json)


@agents.command()
def show(*, agent: Annotated[UUID, typer.Argument(help="The agent's id.")], as_json: AsOneJson = False) -> None:
    """Show one agent with all that it was given."""
    found = act("mcp", lambda actions, who: actions.mcp_agents.get(who, agent))
    if as_json:
        typer.echo(json_line(found))
        return
    _print([found], as_json=False)
    if found.runs_of is not None:
        typer.echo(f"\nruns of the agent {found.runs_of} may get tokens of it, each for its own chain of bookings")
    for title, names in (
        ("users", found.users or ("every connected user",)),
        ("tools", found.tools),
        ("event types", found.event_types),
    ):
        typer.echo(f"\n{title}:")
        for each in names:
            typer.echo(f"  {each}")


@agents.command()
def revoke(*, agent: Annotated[UUID, typer.Argument(help="The agent's id.")], as_json: AsJson = False) -> None:
    """Revoke an agent with its tokens and subscriptions, effective at once."""
    _print([act("mcp", lambda actions, who: actions.mcp_agents.revoke(who, agent))], as_json=as_json)


@app.command()
def token(
    *,
    name: Name,
    user: Annotated[
        str | None,
        typer.Option(help="The URI of the user it acts for; needed if the agent may act for several."),
    ] = None,
    chain: Annotated[
        UUID | None, typer.Option(help="The only chain of bookings it reaches: `chain` of a booking.")
    ] = None,
    as_json: AsOneJson = False,
) -> None:
    """Make a token for an agent and print it: for a host that cannot exchange the agent's secret by itself."""
    from slotwire.ingest.operate.mcp_agent_models import McpTokenRequest

    request = checked(McpTokenRequest, user=user, chain=chain)

    async def work(actions: Actions, who: Principal) -> str:
        made = await actions.mcp_agents.issue(who, name, request)
        if as_json:
            return json_line(made)
        typer.echo(f"for {made.endpoint}, until {made.expires_at:%H:%M:%S} UTC", err=True)
        return made.token

    typer.echo(act("mcp", work))


def _names(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _print(items: list[McpAgentItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "ID": lambda item: item.id,
            "NAME": lambda item: item.name,
            "ORGANIZATIONS": lambda item: ", ".join(item.organizations),
            "TOOLS": lambda item: len(item.tools),
            "CREATED": lambda item: item.created_at,
            "LAST USED": lambda item: item.last_used_at,
            "REVOKED": lambda item: item.revoked_at,
            "LABEL": lambda item: item.label,
        },
        as_json=as_json,
        nothing="no agents yet: slotwire mcp agents add NAME",
    )
