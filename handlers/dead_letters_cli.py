"""List and show dead letters: the records that an agent gave up."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List and show dead letters: the records that an agent gave up."
)

AgentName = Annotated[str, typer.Argument(metavar="AGENT", help='The agent\'s name, as in Agent("crm").')]


@app.command("list")
def list_(
    agent: AgentName,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="List at most this many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List an agent's dead letters, newest first, each with the reason."""
    import asyncio

    from slotwire.handlers.letters import list_letters
    from slotwire.ingest.foundation.settings import load_settings

    found = asyncio.run(list_letters(load_settings().kafka, agent, limit=limit))
    if as_json:
        for letter in found:
            typer.echo(json.dumps(_plain(asdict(letter))))
        return
    if not found:
        typer.echo("no dead letters", err=True)
    for letter in found:
        what = f"{letter.type}  {letter.event}" if letter.type else "no event"
        typer.echo(f"{letter.letter}  {letter.at:%Y-%m-%d %H:%M:%SZ}  {_shown(what)}")
        typer.echo(f"  after {letter.attempts} attempts: {_shown(letter.reason)}")


@app.command()
def show(
    agent: AgentName,
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="For example calendly.invitee.crm.dlq:0:17.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show one dead letter: why, where in the code, its headers, and its value with personal data."""
    import asyncio

    from slotwire.handlers.letters import read_letter
    from slotwire.ingest.foundation.settings import load_settings

    found = asyncio.run(read_letter(load_settings().kafka, agent, letter))
    value = found.value.decode(errors="replace")
    if as_json:
        line = {**asdict(found.about), "trace": found.trace, "key": found.key, "headers": found.headers, "value": value}
        typer.echo(json.dumps(_plain(line)))
        return
    facts: dict[str, object] = {**asdict(found.about), "key": found.key, "at": f"{found.about.at:%Y-%m-%d %H:%M:%SZ}"}
    for name, fact in facts.items():
        if fact is not None:
            typer.echo(f"{name + ':':<11}{_shown(str(fact))}")
    for name, text in found.headers:
        typer.echo(f"{'header:':<11}{_shown(name)}: {_shown(text)}")
    typer.echo(f"\n{_shown(found.trace)}\n\n{_shown(value)}")


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "at": fields["at"].isoformat().replace("+00:00", "Z")}


def _shown(text: str) -> str:
    """Keep control characters of a record from the terminal."""
    return "".join(each if each.isprintable() or each in "\n\t" else "�" for each in text)
