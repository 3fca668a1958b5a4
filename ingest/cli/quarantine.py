"""Settle what could not be understood: list, show, retry and discard quarantined deliveries."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.quarantine_models import QuarantineItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Settle what could not be understood: list, show, retry and discard quarantined deliveries.",
)

Organization = Annotated[
    str | None,
    typer.Option("--organization", help="The last segment of Calendly's organization URI.", show_default=False),
]
Reason = Annotated[str | None, typer.Option(help="Quarantined for one reason, as unknown_event.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    reason: Reason = None,
    state: Annotated[Literal["waiting", "retried", "discarded", "all"], typer.Option(help="In one state.")] = "waiting",
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List quarantined deliveries, newest first, without their bodies."""
    from slotwire.ingest.cli.acting import act, checked, every_item
    from slotwire.ingest.operate.cursors import MAX_PAGE
    from slotwire.ingest.operate.quarantine_models import QuarantineQuery
    from slotwire.ingest.operate.roles import COMMAND_LINE

    first = checked(QuarantineQuery, organization=organization, reason=reason, state=state, limit=min(limit, MAX_PAGE))

    async def read(actions: Actions) -> list[QuarantineItem]:
        return await every_item(partial(actions.quarantine.list, COMMAND_LINE), first, limit=limit)

    _show(act("quarantine", read), as_json=as_json)


@app.command()
def show(
    *,
    delivery: Annotated[UUID, typer.Argument(help="Its id.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print the body's octets, and nothing else.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it on one line of JSON.")] = False,
) -> None:
    """Show one with its body, personal data included."""
    import base64
    import sys

    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.cli.listing import cell, json_line
    from slotwire.ingest.operate.roles import COMMAND_LINE

    found = act("quarantine", lambda actions: actions.quarantine.get(COMMAND_LINE, delivery))
    body = found.body or ""
    if raw:
        sys.stdout.buffer.write(body.encode() if found.encoding == "utf-8" else base64.b64decode(body))
    elif as_json:
        typer.echo(json_line(found))
    else:
        for name in type(found).model_fields:
            if name != "body" and getattr(found, name) is not None:
                typer.echo(f"{name + ':':<17}{cell(getattr(found, name))}")
        # What comes from outside does not get to steer the terminal.
        typer.echo("\n" + "".join(each if each.isprintable() or each in "\n\t" else "�" for each in body))


@app.command()
def retry(
    *,
    deliveries: Annotated[
        list[UUID] | None, typer.Argument(metavar="[DELIVERY]...", help="Their ids.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that wait for the --reason named.")] = False,
    reason: Reason = None,
    organization: Organization = None,
    as_json: AsJson = False,
) -> None:
    """Read deliveries again, in the order they came: after an upgrade they become events with their right ids.

    What still cannot be understood stays, with the reason it has now. To retry twice is harmless.
    """
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.errors import RequestRefused
    from slotwire.ingest.operate.roles import COMMAND_LINE

    if bool(deliveries) == all_ or (all_ and reason is None) or (not all_ and (reason or organization)):
        raise RequestRefused(
            "name deliveries by their ids, or all that wait for one reason",
            code="option_invalid",
            remedy="slotwire quarantine retry ID...   or   slotwire quarantine retry --all --reason unknown_event",
        )

    async def work(actions: Actions) -> list[QuarantineItem]:
        if reason is None:
            named = sorted(set(deliveries or ()), key=lambda each: each.int)
            return [await actions.quarantine.retry(COMMAND_LINE, each) for each in named]
        return await _retry_all(actions, reason, organization)

    items = act("quarantine", work)
    _show([item for item in items if as_json or item.state != "retried"], as_json=as_json, nothing="")
    left = Counter(item.reason for item in items if item.state != "retried")
    stays = "".join(f"; {count} stay: {why}" for why, count in left.most_common())
    typer.echo(f"{len(items) - left.total()} of {len(items)} became what they should have been{stays}", err=True)


@app.command()
def discard(
    *,
    deliveries: Annotated[list[UUID], typer.Argument(metavar="DELIVERY...", help="Their ids.", show_default=False)],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why they are not wanted; kept beside them.")],
    as_json: AsJson = False,
) -> None:
    """Settle deliveries as not wanted. Their bodies stay, and they can still be retried by their ids."""
    from slotwire.ingest.cli.acting import act, checked
    from slotwire.ingest.operate.quarantine_models import DiscardRequest
    from slotwire.ingest.operate.roles import COMMAND_LINE

    request = checked(DiscardRequest, why=why)

    async def work(actions: Actions) -> list[QuarantineItem]:
        return [await actions.quarantine.discard(COMMAND_LINE, each, request) for each in deliveries]

    _show(act("quarantine", work), as_json=as_json)


async def _retry_all(actions: Actions, reason: str, organization: str | None) -> list[QuarantineItem]:
    """Retry what waits for one reason; a terminal shows how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from slotwire.ingest.operate.roles import COMMAND_LINE

    total = await actions.quarantine.count_waiting(COMMAND_LINE, reason, organization)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[QuarantineItem] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("retry", total=total)
        async for item in actions.quarantine.retry_waiting(COMMAND_LINE, reason, organization):
            found.append(item)
            progress.advance(task)
    return found


def _show(items: list[QuarantineItem], *, as_json: bool, nothing: str = "nothing is in quarantine here") -> None:
    from slotwire.ingest.cli.listing import show as show_items

    if not items and not nothing:
        return
    show_items(
        items,
        {
            "DELIVERY": lambda item: item.id,
            "RECEIVED": lambda item: item.received_at,
            "ORGANIZATION": lambda item: item.organization,
            "STATE": lambda item: item.state,
            "REASON": lambda item: item.reason,
            "DETAIL": lambda item: item.detail or "-",
            "NOTE": lambda item: item.note,
        },
        as_json=as_json,
        nothing=nothing,
    )
