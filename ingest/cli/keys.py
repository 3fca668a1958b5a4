"""Make, list and revoke keys of the management API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

if TYPE_CHECKING:
    from ingest.operate.actions import Actions
    from ingest.operate.models import KeyItem

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make, list and revoke keys of the management API.")
api = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys of the management API, straight in Postgres.")
app.add_typer(api, name="api")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@api.command()
def create(
    *,
    role: Annotated[str, typer.Option(help="reader: reads the log; operator: subscriptions too; admin: keys too.")],
    organization: Annotated[
        str | None, typer.Option(help="The one organization it reaches; all when left out.", show_default=False)
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.", show_default=False)] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and show it this once, on standard output; only its hash is kept."""
    from ingest.cli.acting import act, checked
    from ingest.cli.listing import json_line
    from ingest.operate.models import KeyRequest
    from ingest.operate.roles import COMMAND_LINE

    request = checked(KeyRequest, role=role, organization=organization, label=label)
    made = act("keys", lambda actions: actions.keys.create(COMMAND_LINE, request))
    if as_json:
        typer.echo(json_line(made))
        return
    typer.echo(f"{made.role} key {made.id}; it is shown this once:", err=True)
    typer.echo(made.key)


@api.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List keys, without the keys."""
    from ingest.cli.acting import act
    from ingest.operate.cursors import MAX_PAGE
    from ingest.operate.models import PageQuery
    from ingest.operate.roles import COMMAND_LINE

    async def all_pages(actions: Actions) -> list[KeyItem]:
        found: list[KeyItem] = []
        cursor = None
        while True:
            page = await actions.keys.list(COMMAND_LINE, PageQuery(limit=MAX_PAGE, cursor=cursor))
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found

    _show(act("keys", all_pages), as_json=as_json)


@api.command()
def revoke(
    *, key: Annotated[UUID, typer.Argument(help="Its id, not the key itself.")], as_json: AsJson = False
) -> None:
    """Revoke a key at once."""
    from ingest.cli.acting import act
    from ingest.operate.roles import COMMAND_LINE

    _show([act("keys", lambda actions: actions.keys.revoke(COMMAND_LINE, key))], as_json=as_json)


def _show(items: list[KeyItem], *, as_json: bool) -> None:
    from ingest.cli.listing import show

    show(
        items,
        {
            "ID": lambda item: item.id,
            "ROLE": lambda item: item.role,
            "ORGANIZATION": lambda item: item.organization or "all",
            "CREATED": lambda item: item.created_at,
            "LAST USED": lambda item: item.last_used_at,
            "REVOKED": lambda item: item.revoked_at,
            "LABEL": lambda item: item.label,
        },
        as_json=as_json,
        nothing="no keys yet: slotwire keys api create --role admin",
    )
