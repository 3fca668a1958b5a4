"""List, show, redrive, edit and discard the records that agents gave up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Limit, OfAgent, Organization
from slotwire.ingest.foundation.printable import one_line, printable

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.dead_letter_models import DeadLetterItem
    from slotwire.ingest.operate.roles import Principal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List, show, redrive, edit and discard the records that agents gave up.",
)

AgentName = Annotated[str | None, typer.Option(metavar="AGENT", help='Of this agent, as in Agent("crm").')]
Letters = Annotated[
    list[UUID] | None, typer.Argument(metavar="[LETTER]...", help="The dead letters' ids.", show_default=False)
]
_HELD = ("headers", "value", "edited_value", "trace")


@app.command("list")
def list_(
    *,
    agent: OfAgent = None,
    organization: Organization = None,
    state: Annotated[
        Literal["open", "queued", "settled", "discarded", "all"], typer.Option(help="Only in this state.")
    ] = "open",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first, each with the reason."""
    from slotwire.ingest.operate.dead_letter_models import DeadLetterQuery

    found = list_items(
        "dead-letters",
        lambda actions, who, query: actions.dead_letters.list(who, query),
        DeadLetterQuery,
        limit=limit,
        agent=agent,
        organization=organization,
        state=state,
    )
    _show(found, as_json=as_json)


@app.command()
def show(*, letter: Annotated[UUID, typer.Argument(help="The dead letter's id.")], as_json: AsOneJson = False) -> None:
    """Show one dead letter: why, where in the code, its headers, and its data with personal data."""
    found = act("dead-letters", lambda actions, who: actions.dead_letters.get(who, letter))
    if as_json:
        typer.echo(json_line(found))
        return
    for name in type(found).model_fields:
        if name not in _HELD and getattr(found, name) is not None:
            typer.echo(f"{name + ':':<16}{cell(getattr(found, name))}")
    for header in found.headers or ():
        typer.echo(f"{'header:':<16}{one_line(header.name)}: {one_line(header.value)}")
    typer.echo(f"\n{printable(found.trace)}\n\n{printable(found.value or '')}")
    if found.edited_value is not None:
        typer.echo(f"\nedited:\n{printable(found.edited_value)}")


@app.command()
def redrive(
    *,
    letters: Letters = None,
    all_of: Annotated[
        str | None, typer.Option("--all", metavar="AGENT", help="All open ones of this agent.", show_default=False)
    ] = None,
    organization: Organization = None,
    reason: Annotated[str | None, typer.Option(help="With --all: only with this reason.", show_default=False)] = None,
    discard_older: Annotated[
        bool,
        typer.Option("--discard-older", help="Discard those older than what the agent has done since for their key."),
    ] = False,
    drop_journal: Annotated[
        bool, typer.Option("--drop-journal", help="Forget what their runs have done: steps that ended run once more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have the agent that gave records up handle them again.

    Each waits for the work of its key that runs; of one key they go in their order. Each takes effect once, also if you
    repeat this. The handler sees `ctx.redriven`, and in `ctx.newer_position` whether it has done newer events since.
    """
    from slotwire.ingest.errors import RequestRefused
    from slotwire.ingest.operate.dead_letter_models import AllLettersRequest, RedriveRequest

    if bool(letters) == (all_of is not None) or (letters and (organization or reason)):
        raise RequestRefused(
            "give dead letters' ids, or --all with an agent",
            code="option_invalid",
            remedy="slotwire dead-letters redrive ID...   or   slotwire dead-letters redrive --all crm",
        )

    async def work(actions: Actions, who: Principal) -> list[DeadLetterItem]:
        if all_of is None:
            how = RedriveRequest(discard_older=discard_older, drop_journal=drop_journal)
            return [await actions.dead_letters.redrive(who, each, how) for each in sorted(letters or ())]
        request = checked(
            AllLettersRequest,
            agent=all_of,
            organization=organization,
            reason=reason,
            discard_older=discard_older,
            drop_journal=drop_journal,
        )
        return list((await actions.dead_letters.redrive_all(who, request)).items)

    _show(act("dead-letters", work), as_json=as_json)


@app.command()
def edit(
    *,
    letter: Annotated[UUID, typer.Argument(help="The dead letter's id.")],
    value: Annotated[
        Path, typer.Option(metavar="FILE", help="The event's data as JSON; - for standard input.", allow_dash=True)
    ],
    as_json: AsOneJson = False,
) -> None:
    """Give a dead letter other data, for when it is driven again.

    The record's own data stays, and the audit says who edited it. The handler sees `ctx.edited`.
    """
    import sys

    from slotwire.ingest.operate.dead_letter_models import EditRequest

    text = sys.stdin.read() if str(value) == "-" else value.read_text(encoding="utf-8")
    request = checked(EditRequest, value=text)
    found = act("dead-letters", lambda actions, who: actions.dead_letters.edit(who, letter, request))
    _show([found], as_json=as_json)


@app.command()
def discard(
    *,
    letters: Annotated[list[UUID], typer.Argument(metavar="LETTER...", help="The dead letters' ids.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why you do not want them; stored with them.")],
    as_json: AsJson = False,
) -> None:
    """Mark dead letters as not wanted. What they hold stays, and you can still drive them again by their ids."""
    from slotwire.ingest.operate.dead_letter_models import LetterDiscardRequest

    request = checked(LetterDiscardRequest, why=why)

    async def work(actions: Actions, who: Principal) -> list[DeadLetterItem]:
        return [await actions.dead_letters.discard(who, each, request) for each in letters]

    _show(act("dead-letters", work), as_json=as_json)


def _show(items: list[DeadLetterItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "LETTER": lambda item: item.id,
            "GIVEN UP": lambda item: item.at,
            "AGENT": lambda item: item.agent,
            "STATE": lambda item: item.state,
            "TYPE": lambda item: item.type or "-",
            "NEWER": lambda item: item.newer_position,
            "REASON": lambda item: f"after {item.attempts} attempt{'s' * (item.attempts != 1)}: {item.reason}",
        },
        as_json=as_json,
        nothing="no dead letters",
    )
