"""Check settings, Postgres, Kafka and clocks, and say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slotwire.ingest.cli.listing import json_line
from slotwire.ingest.cli.options import AsJson

if TYPE_CHECKING:
    from slotwire.ingest.operate.findings import Finding, Process

app = typer.Typer(add_completion=False)

_MARKS = {"ok": "ok      ", "warning": "warning ", "failed": "FAILED  "}


@app.command()
def doctor(
    *,
    process: Annotated[
        Literal["serve", "relay", "control", "agents", "mcp"] | None,
        typer.Option("--process", help="Check what this process needs, with the settings that it has itself."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, Postgres, Kafka and clocks, and say what to do. Changes nothing. Exits with 1 if one fails.

    Without --process it checks the whole installation, and needs the settings of all processes.
    """
    import asyncio

    raise typer.Exit(asyncio.run(_examine(process, as_json=as_json)))


async def _examine(process: Process | None, *, as_json: bool) -> int:
    from slotwire.ingest.errors import ConfigurationError
    from slotwire.ingest.foundation.clock import clock_of
    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.operate.doctor import examine, verdict
    from slotwire.ingest.operate.findings import failed, ok

    try:
        settings = load_settings()
    except ConfigurationError as error:
        findings = [failed("settings", error)]
        _tell(findings[0], as_json=as_json)
        return verdict(findings)
    findings = [ok("settings", "every SLOTWIRE_ variable is known and fits")]
    _tell(findings[0], as_json=as_json)
    async for found in examine(settings, clock_of(settings), process=process):
        _tell(found, as_json=as_json)
        findings.append(found)
    return verdict(findings)


def _tell(found: Finding, *, as_json: bool) -> None:

    if as_json:
        typer.echo(json_line(found))
        return
    typer.echo(f"{_MARKS[found.state]}{found.check}: {found.message}")
    for line in found.remedy.splitlines():
        typer.echo(f"        {line.strip()}")
