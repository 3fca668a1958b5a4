"""List, show, retry and discard deliveries that could not be understood."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Limit, Organization
from slotwire.ingest.foundation.printable import printable

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.quarantine_models import QuarantineItem
    from slotwire.ingest.operate.roles import Principal

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List, show, retry and discard deliveries that could not be understood.",
)

Reason = Annotated[
    str | None, typer.Option(help="Only with this reason, for example unknown_event.", show_default=False)
]


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    reason: Reason = None,
    state: Annotated[
        Literal["waiting", "retried", "discarded", "all"], typer.Option(help="Only in this state.")
    ] = "waiting",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List quarantined deliveries, newest first, without their bodies."""
    from slotwire.ingest.operate.quarantine_models import QuarantineQuery

    found = list_items(
        "quarantine",
        lambda actions, who, query: actions.quarantine.list(who, query),
        QuarantineQuery,
        limit=limit,
        organization=organization,
        reason=reason,
        state=state,
    )
    _show(found, as_json=as_json)


@app.command()
def show(
    *,
    delivery: Annotated[UUID, typer.Argument(help="The delivery's id.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print the bytes of the body, and nothing else.")] = False,
    as_json: AsOneJson = False,
) -> None:
    """Show one delivery with its body, which holds personal data."""
    import base64
    import sys

    found = act("quarantine", lambda actions, who: actions.quarantine.get(who, delivery))
    body = found.body or ""
    if raw:
        sys.stdout.buffer.write(body.encode() if found.encoding == "utf-8" else base64.b64decode(body))
    elif as_json:
        typer.echo(json_line(found))
    else:
        for name in type(found).model_fields:
            if name != "body" and getattr(found, name) is not None:
                typer.echo(f"{name + ':':<17}{cell(getattr(found, name))}")
        typer.echo("\n" + printable(body))


@app.command()
def retry(
    *,
    deliveries: Annotated[
        list[UUID] | None, typer.Argument(metavar="[DELIVERY]...", help="The deliveries' ids.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that wait with the given --reason.")] = False,
    reason: Reason = None,
    organization: Organization = None,
    as_json: AsJson = False,
) -> None:
    """Read deliveries again, in the order they came. After an upgrade they become events.

    The events have the ids they would have had at first. A delivery that this version cannot read either stays, with
    the reason it has now. Safe to repeat.
    """
    from slotwire.ingest.errors import RequestRefused

    if bool(deliveries) == all_ or (all_ and reason is None) or (not all_ and (reason or organization)):
        raise RequestRefused(
            "give deliveries' ids, or --all with a --reason",
            code="option_invalid",
            remedy="slotwire quarantine retry ID...   or   slotwire quarantine retry --all --reason unknown_event",
        )

    async def work(actions: Actions, who: Principal) -> list[QuarantineItem]:
        if reason is None:
            named = sorted(set(deliveries or ()), key=lambda each: each.int)
            return [await actions.quarantine.retry(who, each) for each in named]
        return await _retry_all(actions, who, reason, organization)

    items = act("quarantine", work)
    _show([item for item in items if as_json or item.state != "retried"], as_json=as_json, nothing="")
    left = Counter(item.reason for item in items if item.state != "retried" and item.accepted_at is None)
    stays = "".join(f"; {count} stay: {why}" for why, count in left.most_common())
    unwritten = [item.accepted_at for item in items if item.accepted_at is not None]
    later = f"; {len(unwritten)} accepted at {max(unwritten)}, not yet written" if unwritten else ""
    written = len(items) - left.total() - len(unwritten)
    typer.echo(f"{written} of {len(items)} were read and written to the log{stays}{later}", err=True)
    if unwritten:
        typer.echo("Is a relay running? `slotwire doctor` tells.", err=True)


@app.command()
def discard(
    *,
    deliveries: Annotated[
        list[UUID], typer.Argument(metavar="DELIVERY...", help="The deliveries' ids.", show_default=False)
    ],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why you do not want them; stored with them.")],
    as_json: AsJson = False,
) -> None:
    """Mark deliveries as not wanted. Their bodies stay, and you can still retry them by their ids."""
    from slotwire.ingest.operate.quarantine_models import DiscardRequest

    request = checked(DiscardRequest, why=why)

    async def work(actions: Actions, who: Principal) -> list[QuarantineItem]:
        return [await actions.quarantine.discard(who, each, request) for each in deliveries]

    _show(act("quarantine", work), as_json=as_json)


async def _retry_all(actions: Actions, who: Principal, reason: str, organization: str | None) -> list[QuarantineItem]:
    """Retry all that wait with one reason; a terminal shows the progress."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    total = await actions.quarantine.count_waiting(who, reason, organization)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[QuarantineItem] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("retry", total=total)
        async for item in actions.quarantine.retry_waiting(who, reason, organization):
            found.append(item)
            progress.advance(task)
    return found


def _show(items: list[QuarantineItem], *, as_json: bool, nothing: str = "nothing is in quarantine here") -> None:

    if not items and not nothing:
        return
    print_items(
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
