"""Options that several commands have, so that they are spelt and explained once."""

from __future__ import annotations

from typing import Annotated

import typer

Organization = Annotated[
    str | None,
    typer.Option("--organization", help="The last segment of Calendly's organization URI.", show_default=False),
]
OfAgent = Annotated[
    str | None,
    typer.Argument(metavar="[AGENT]", help='Only of this agent, as in Agent("crm").', show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="List at most this many.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
AsOneJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV with a heading; no cell is a formula.")]
