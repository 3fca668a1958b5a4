"""Serve the management API and maintain the subscriptions. Needs Postgres, not Kafka."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False)


@app.command()
def control() -> None:
    """Serve the management API and maintain the subscriptions. Needs Postgres, not Kafka."""
    import asyncio

    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.health import Health, serving_health
    from slotwire.ingest.foundation.lifecycle import run
    from slotwire.ingest.foundation.log_output import configure_logging
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.tracing import configure_tracing
    from slotwire.ingest.operate.process import run_control

    settings = load_settings()
    configure_logging(settings.log, process="control")
    configure_tracing(settings.traces, process="control")

    async def main(stop: asyncio.Event) -> None:
        health = Health("control")
        async with serving_health(health, settings.health):
            await run_control(settings, stop, health=health, clock=clock_of(settings))

    run(main)
