"""Make, run and list agents: the handlers that react to events; move where a stopped one continues."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from slotwire.handlers.author import author_cli

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slotwire.handlers.consume.offsets import OffsetMove

app = typer.Typer(add_completion=False, no_args_is_help=True)
_EXAMPLE = "crm.agent:agent, or notify, which comes with Slotwire"


@app.callback()
def agents() -> None:
    """Make, run and list agents: the handlers that react to events; move where a stopped one continues."""


@app.command()
def run(
    references: Annotated[list[str], typer.Argument(metavar="AGENT...", help=f"For example {_EXAMPLE}.")],
    *,
    lines: Annotated[
        bool,
        typer.Option(
            "--lines", help="Print a line per event, and each error with its message, which may hold personal data."
        ),
    ] = False,
    only: Annotated[
        bool, typer.Option("--alone", help="End if one of them runs with this option already, as `dev` runs it.")
    ] = False,
) -> None:
    """Run agents until SIGINT or SIGTERM. Running handlers may then finish; events of the others are delivered again.

    Several agents in one process share its database connections; each has a consumer group of its own.
    Modules are looked up in the working directory, then in the installed packages.
    """
    import asyncio
    from contextlib import nullcontext

    from slotwire.handlers.shipped_names import are_shipped
    from slotwire.ingest.foundation.author_environment import OF_MAIL, OF_SHIPPED, begin_without_secrets

    begin_without_secrets(but={OF_SHIPPED, OF_MAIL} if are_shipped(references) else ())
    from slotwire.handlers.author.alone import alone
    from slotwire.handlers.author.shown_runs import ShownRuns
    from slotwire.handlers.ending import EXIT_LEFT, EndWatch
    from slotwire.handlers.process import run_agents
    from slotwire.handlers.registry import load_agents
    from slotwire.ingest.foundation import lifecycle
    from slotwire.ingest.foundation.clock import SystemClock
    from slotwire.ingest.foundation.log_output import configure_logging
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.tracing import configure_tracing

    settings = load_settings()
    configure_logging(settings.log, process="agents")
    configure_tracing(settings.traces, process="agents")
    loaded = load_agents(references)
    grace = settings.agents.stop_grace_seconds
    watch = EndWatch(max(grace if each.grace_seconds is None else each.grace_seconds for each in loaded))

    async def main(stop: asyncio.Event) -> None:
        async with watch.watching(), alone(loaded, settings) if only else nullcontext():
            await run_agents(loaded, settings, stop, shown=ShownRuns(SystemClock()) if lines else None)

    lifecycle.run(main)
    if watch.abandoned:
        raise typer.Exit(EXIT_LEFT)


@app.command(name="list")
def list_agents(
    references: Annotated[
        list[str] | None,
        typer.Argument(metavar="[AGENT...]", help="Default: the agents that come with Slotwire."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List agents with the events they handle, their scheduled work and their consumer groups."""
    from slotwire.ingest.foundation.author_environment import begin_without_secrets

    begin_without_secrets()
    from slotwire.handlers.firings import firing_partition
    from slotwire.handlers.registry import group_name, load_agent
    from slotwire.handlers.shipped_names import shipped_agents
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.schemas.topics import dead_letter_topic

    prefix = load_settings().kafka.topic_prefix
    for reference in references or shipped_agents():
        agent = load_agent(reference)
        topics = [prefix + topic.name for topic in agent.topics]
        fired = [firing_partition(prefix).topic] if agent.schedules else []
        found = {
            "agent": agent.name,
            "reference": reference,
            "group": group_name(prefix, agent),
            "events": [cls.type for cls in agent.events],
            "schedules": [
                {"schedule": each.name, "times": str(each.times), "missed": each.missed}
                for each in agent.schedules.values()
            ],
            "topics": topics,
            "dead_letters": [dead_letter_topic(topic, agent.name) for topic in (*topics, *fired)],
            "attempts": agent.retry.attempts,
        }
        if as_json:
            typer.echo(json.dumps(found))
        else:
            typer.echo(f"{agent.name}  ({reference}, group {found['group']})")
            for cls in agent.events:
                typer.echo(f"  {cls.type:<48} from {prefix}{cls.topic.name}")
            for schedule in agent.schedules.values():
                typer.echo(f"  {schedule.name:<48} {schedule.times}, missed: {schedule.missed}")


app.command("new")(author_cli.new)
app.command("migrate")(author_cli.migrate)
app.command("dev")(author_cli.dev)
app.command("try")(author_cli.try_)

AgentName = Annotated[str, typer.Argument(metavar="AGENT", help='The agent\'s name, as in Agent("crm").')]


@app.command()
def rewind(
    agent: AgentName,
    *,
    to: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], metavar="TIME", help="For example 2026-11-23T09:00:00Z."),
    ],
    topic: Annotated[
        str | None,
        typer.Option(help="Only in this topic, by its full name: in all its partitions, also where Kafka forgot it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Have a stopped agent read again what was written at or after a time.

    Its inbox skips the events that are done; those that were given up run again, after later events of their booking.
    """
    import asyncio

    from slotwire.handlers.consume.offsets import rewind as move_back
    from slotwire.ingest.foundation.settings import load_settings

    _show(asyncio.run(move_back(load_settings().kafka, agent, to, topic=topic)), as_json=as_json)


@app.command()
def skip(
    agent: AgentName,
    *,
    topic: Annotated[str, typer.Option(help="The topic's full name.")],
    partition: Annotated[int, typer.Option(min=0, help="The partition's number.")],
    records: Annotated[int, typer.Option(min=1, max=10_000, help="How many records to go past.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Have a stopped agent continue past records that cannot be read, for example a damaged batch."""
    import asyncio

    from slotwire.handlers.consume.offsets import skip as move_on
    from slotwire.ingest.foundation.settings import load_settings

    moved = asyncio.run(move_on(load_settings().kafka, agent, topic, partition, records))
    _show([moved], as_json=as_json)


def _show(moves: Iterable[OffsetMove], *, as_json: bool) -> None:
    from dataclasses import asdict

    for move in moves:
        if as_json:
            typer.echo(json.dumps(asdict(move)))
        else:
            before = "nowhere" if move.before is None else move.before
            moved = "stays at" if move.after == move.before else f"{before} ->"
            typer.echo(f"{move.topic} {move.partition}  {moved} {move.after} of {move.end}")
