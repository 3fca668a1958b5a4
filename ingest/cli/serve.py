"""Take Calendly's deliveries: the public endpoint. Needs Postgres; never asks Kafka."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False)


@app.command()
def serve() -> None:
    """Take Calendly's deliveries: the public endpoint. Needs Postgres; never asks Kafka."""
    from ingest.foundation.lifecycle import run
    from ingest.foundation.settings import load_settings
    from ingest.foundation.telemetry import configure_logging
    from ingest.processes import serve as process

    settings = load_settings()
    configure_logging(settings.log, process="serve")
    run(lambda stop: process(settings, stop))
