"""List who changed what, by command or by HTTP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.audit_models import AuditItem

app = typer.Typer(no_args_is_help=True, add_completion=False, help="List who changed what, by command or by HTTP.")


@app.callback()
def _audit() -> None:
    """List who changed what, by command or by HTTP."""


@app.command("list")
def list_(
    *,
    organization: Annotated[
        str | None, typer.Option(help="The last segment of Calendly's organization URI.", show_default=False)
    ] = None,
    action: Annotated[str | None, typer.Option(help="Of one action, as keys.create.", show_default=False)] = None,
    actor: Annotated[
        str | None, typer.Option(help="By one: a key's id, 'command line', 'control'.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at the most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """List changes, newest first, and what was refused of them."""
    from slotwire.ingest.cli.acting import act, checked, every_item
    from slotwire.ingest.cli.listing import show
    from slotwire.ingest.operate.audit_models import AuditQuery
    from slotwire.ingest.operate.cursors import MAX_PAGE
    from slotwire.ingest.operate.roles import COMMAND_LINE

    first = checked(AuditQuery, organization=organization, action=action, actor=actor, limit=min(limit, MAX_PAGE))

    async def read(actions: Actions) -> list[AuditItem]:
        return await every_item(partial(actions.audit.list, COMMAND_LINE), first, limit=limit)

    show(
        act("audit", read),
        {
            "TIME": lambda item: item.at,
            "ACTION": lambda item: item.action,
            "RESULT": lambda item: item.result if item.code is None else f"{item.result}: {item.code}",
            "ORGANIZATION": lambda item: item.organization,
            "TARGET": lambda item: item.target,
            "ACTOR": lambda item: item.actor,
            "ROLE": lambda item: item.role,
        },
        as_json=as_json,
        nothing="no change yet",
    )
