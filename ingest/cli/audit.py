"""Show who changed what, by command or by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slotwire.ingest.cli.acting import list_items
from slotwire.ingest.cli.listing import print_items
from slotwire.ingest.cli.options import AsJson, Limit, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.audit_models import AuditItem

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Show who changed what, by command or by HTTP.")


@app.callback()
def _audit() -> None:
    """Show who changed what, by command or by HTTP."""


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    action: Annotated[
        str | None, typer.Option(help="Only this action, for example keys.create.", show_default=False)
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option(
            help="Only by this actor: the id of a key or link, 'command line' or 'control'.", show_default=False
        ),
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List changes, newest first, with the attempts that were refused."""
    from slotwire.ingest.operate.audit_models import AuditQuery

    found = list_items(
        "audit",
        lambda actions, who, query: actions.audit.list(who, query),
        AuditQuery,
        limit=limit,
        organization=organization,
        action=action,
        actor=actor,
    )
    print_items(
        found,
        {
            "TIME": lambda item: item.at,
            "ACTION": lambda item: item.action,
            "RESULT": _result,
            "ORGANIZATION": lambda item: item.organization,
            "TARGET": lambda item: item.target,
            "ACTOR": lambda item: item.actor,
            "ROLE": lambda item: item.role,
        },
        as_json=as_json,
        nothing="no change yet",
    )


def _result(item: AuditItem) -> str:
    often = "" if item.times == 1 else f", {item.times} times"
    return item.result if item.code is None else f"{item.result}: {item.code}{often}"
