"""Calls a running simulator for the commands, and prints its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from slotwire.ingest.simulator.client import SimulatorClient

Url = Annotated[
    str | None,
    typer.Option(
        "--simulator-url", help="The simulator's address; if left out, SLOTWIRE_CALENDLY__API_URL.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
SIGNED_AHEAD_SECONDS = 300
"""A signature further in the future is refused by `slotwire serve`."""


def connected(url: str | None) -> SimulatorClient:
    """Return a client of the simulator at `url`, or at the address in the settings.

    Raises:
        SlotwireError: the address is not on this machine.
    """
    from slotwire.ingest.simulator.client import SimulatorClient

    if url is None:
        from slotwire.ingest.foundation.settings import load_settings

        url = load_settings().calendly.api_url
    return SimulatorClient(url)


def seconds_in(text: str) -> float:
    """Read a duration as `90`, `90s`, `15m`, `24h` or `2d`.

    Raises:
        BadParameter: the text is not a duration.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        return float(number) * unit
    except ValueError:
        raise typer.BadParameter("write a number of seconds, or 90s, 15m, 24h, 2d") from None


def warn_unless_followed(clock: Mapping[str, Any]) -> None:
    """Say what follows where the simulator's clock is far ahead, and no process can go by it."""
    if clock["offset_seconds"] > SIGNED_AHEAD_SECONDS and not clock["followed"]:
        typer.echo(
            "Deliveries are signed with this clock. A `slotwire serve` that goes by the machine's refuses what is"
            f" signed more than {SIGNED_AHEAD_SECONDS} s ahead (from_future). To let it follow, start the simulator"
            " with --clock-file FILE, and the processes with SLOTWIRE_LOCAL__CLOCK_FILE=FILE.",
            err=True,
        )


def show(what: object) -> None:
    """Print text as it is, and anything else as a line of JSON."""
    import orjson

    typer.echo(what if isinstance(what, str) else orjson.dumps(what).decode())
