"""Receive Calendly's deliveries on the public endpoint. Needs Postgres, not Kafka."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False)


@app.command()
def serve() -> None:
    """Receive Calendly's deliveries on the public endpoint. Needs Postgres, not Kafka."""
    from slotwire.ingest.foundation.lifecycle import run
    from slotwire.ingest.foundation.log_output import configure_logging
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.foundation.tracing import configure_tracing
    from slotwire.ingest.receive.process import serve as process

    settings = load_settings()
    configure_logging(settings.log, process="serve")
    configure_tracing(settings.traces, process="serve")
    run(lambda stop: process(settings, stop))
