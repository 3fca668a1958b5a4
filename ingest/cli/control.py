"""Serve the management API and keep the subscriptions. Needs Postgres; never asks Kafka at start."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False)


@app.command()
def control() -> None:
    """Serve the management API and keep the subscriptions. Needs Postgres; never asks Kafka at start."""
    import asyncio

    from ingest.foundation.clock import SystemClock
    from ingest.foundation.health import Health, serving_health
    from ingest.foundation.lifecycle import run
    from ingest.foundation.settings import load_settings
    from ingest.foundation.telemetry import configure_logging
    from ingest.operate.control_process import run_control

    settings = load_settings()
    configure_logging(settings.log, process="control")

    async def main(stop: asyncio.Event) -> None:
        health = Health()
        async with serving_health(health, settings.health):
            await run_control(settings, stop, health=health, clock=SystemClock())

    run(main)
