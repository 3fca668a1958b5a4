"""Write what was accepted to the log, and publish the log to Kafka."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


def _place(value: str | None) -> str | None:
    if value is None or value in {"mirror", "beginning"} or (value.isascii() and value.isdigit() and len(value) <= 18):
        return value
    raise typer.BadParameter("give mirror, beginning or a position in the log, for example 4711")


@app.command()
def relay(
    cursor_from: Annotated[
        str | None,
        typer.Option(
            "--cursor-from",
            metavar="mirror|POSITION|beginning",
            callback=_place,
            help="Where to continue if the cursor does not fit the log. Used once, and ignored if it fits.",
        ),
    ] = None,
    skip: Annotated[
        int,
        typer.Option(
            "--skip", min=0, metavar="N", help="With --cursor-from POSITION: leave out so many unpublished events."
        ),
    ] = 0,
) -> None:
    """Write what was accepted to the log, and publish the log to Kafka.

    In order, and exactly once for readers of committed records. Without a relay, deliveries are accepted and wait.

    You can run several: each shard of the log has one leader, and the others stand by. When something is missing,
    the relay holds, is not ready, says what to do, and continues by itself once it is there.
    """
    from slotwire.ingest.foundation.lifecycle import run

    run(lambda stop: _relay(stop, cursor_from, skip))


async def _relay(stop: asyncio.Event, cursor_from: str | None, skip: int) -> None:
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.health import Health, serving_health
    from slotwire.ingest.foundation.log_output import configure_logging
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.tracing import configure_tracing
    from slotwire.ingest.relay.log_reader import CursorFrom
    from slotwire.ingest.relay.process import run_relay

    settings = load_settings()
    configure_logging(settings.log, process="relay")
    configure_tracing(settings.traces, process="relay")
    health = Health("relay")
    async with serving_health(health, settings.health):
        choice = None if cursor_from is None else CursorFrom(cursor_from, skip)
        await run_relay(settings, stop, health=health, clock=clock_of(settings), cursor_from=choice)
        health.draining = True
