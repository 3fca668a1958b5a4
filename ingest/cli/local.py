"""`slotwire local`: everything on this machine, with a simulated Calendly and a demo agent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def local(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="When all is ready, print one line of JSON on stdout, and nothing else.")
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="The folder for data, keys and logs.", show_default=False)
    ] = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Use a temporary folder and delete it at the end.")
    ] = False,
    no_demo: Annotated[
        bool, typer.Option("--no-demo", help="Start without the demo: no meetings are booked until you book one.")
    ] = False,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the data of earlier runs, list it, and exit.")] = False,
) -> None:
    """Run Slotwire on this machine: Postgres, Kafka, all processes, a simulated Calendly and a demo agent.

    Postgres and Kafka are real servers, without Docker. The first run downloads Kafka (37 MB). Ctrl-C stops all.
    """
    from slotwire.ingest.errors import ConfigurationError
    from slotwire.ingest.foundation.local_stack import default_state_dir

    if ephemeral and (state_dir or wipe):
        raise ConfigurationError("--ephemeral uses a temporary folder: leave out --state-dir and --wipe")
    folder = state_dir or default_state_dir()
    if wipe:
        _wipe(folder)
        return
    if ephemeral:
        from slotwire.ingest.local.stack import ephemeral_folder

        with ephemeral_folder() as made, _naming_nothing_in(made):
            _run(made, as_json=as_json, demo=not no_demo, ephemeral=True)
        return
    _run(folder, as_json=as_json, demo=not no_demo, ephemeral=False)


def _run(folder: Path, *, as_json: bool, demo: bool, ephemeral: bool) -> None:
    import asyncio
    import os

    from slotwire.ingest.foundation.settings import load_settings
    from slotwire.ingest.local.console import Console
    from slotwire.ingest.local.run import LocalOptions, run_local
    from slotwire.ingest.local.wiring import ignored_settings

    settings = load_settings()
    console = Console(as_json)
    ignored = ignored_settings(os.environ)
    if ignored:
        console.say(f"`slotwire local` sets these variables itself and ignores your values: {', '.join(ignored)}")
    options = LocalOptions(folder, demo, settings.local.maven_repository, settings.log.level, ephemeral)
    asyncio.run(run_local(options, console))


@contextmanager
def _naming_nothing_in(folder: Path) -> Iterator[None]:
    """Leave out of an error what it says to look at in a folder that is gone when it is read."""
    from slotwire.ingest.errors import SlotwireError

    try:
        yield
    except SlotwireError as error:
        lines = error.remedy.splitlines()
        there = [line for line in lines if str(folder) not in line]
        if there != lines:
            there.append("For its whole log run it with --state-dir DIR in place of --ephemeral.")
        error.remedy = "\n".join(there)
        raise


def _wipe(folder: Path) -> None:
    import asyncio

    from slotwire.ingest.local.state import wipe

    deleted = asyncio.run(wipe(folder))
    if not deleted:
        typer.echo(f"nothing to delete: {folder} holds no state")
    for path in deleted:
        typer.echo(f"deleted {path}")
