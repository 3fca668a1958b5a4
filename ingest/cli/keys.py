"""Make, list and revoke keys of the management API; rotate the vault's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.models import KeyItem
    from slotwire.ingest.operate.vault_rotation import KeyUse, RotationProgress

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Make, list and revoke keys of the management API; rotate the vault's.",
)
api = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys of the management API, straight in Postgres.")
app.add_typer(api, name="api")
vault = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys that seal secrets in the database.")
app.add_typer(vault, name="vault")

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
    from slotwire.ingest.cli.acting import act, checked
    from slotwire.ingest.cli.listing import json_line
    from slotwire.ingest.operate.models import KeyRequest
    from slotwire.ingest.operate.roles import COMMAND_LINE

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
    from slotwire.ingest.cli.acting import act, every_item
    from slotwire.ingest.operate.cursors import MAX_PAGE
    from slotwire.ingest.operate.models import PageQuery
    from slotwire.ingest.operate.roles import COMMAND_LINE

    async def all_pages(actions: Actions) -> list[KeyItem]:
        return await every_item(partial(actions.keys.list, COMMAND_LINE), PageQuery(limit=MAX_PAGE))

    _show(act("keys", all_pages), as_json=as_json)


@api.command()
def revoke(
    *, key: Annotated[UUID, typer.Argument(help="Its id, not the key itself.")], as_json: AsJson = False
) -> None:
    """Revoke a key at once."""
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.operate.roles import COMMAND_LINE

    _show([act("keys", lambda actions: actions.keys.revoke(COMMAND_LINE, key))], as_json=as_json)


@vault.command()
def rotate(*, as_json: AsJson = False) -> None:
    """Seal anew what another key than the vault's first one sealed; safe to interrupt and to repeat.

    Put the new key first in SLOTWIRE_VAULT__KEYS and keep the old one behind it, in every process; then run this.
    Exits with 1 when a secret does not open with any of the keys.
    """
    from slotwire.ingest.cli.acting import act
    from slotwire.ingest.operate.roles import COMMAND_LINE

    async def work(actions: Actions) -> tuple[dict[str, RotationProgress], tuple[KeyUse, ...]]:
        tables: dict[str, RotationProgress] = {}
        async for page in actions.keys.rotate_vault(COMMAND_LINE):
            tables[page.table] = page
            if not as_json:
                typer.echo(f"{page.table}: {page.resealed} sealed anew{'' if page.done else ' …'}", err=True)
        return tables, await actions.keys.vault_use(COMMAND_LINE)

    tables, uses = act("keys", work)
    _tell_rotation(tables, uses, as_json=as_json)
    if any(page.unreadable for page in tables.values()):
        raise typer.Exit(1)


def _tell_rotation(tables: dict[str, RotationProgress], uses: tuple[KeyUse, ...], *, as_json: bool) -> None:
    from slotwire.ingest.cli.listing import json_line
    from slotwire.ingest.cli.listing import show as show_all

    if as_json:
        for item in (*tables.values(), *uses):
            typer.echo(json_line(item))
        return
    show_all(
        uses,
        {
            "KEY": lambda use: use.key or "(no form of ours)",
            "SECRETS": lambda use: use.secrets,
            "": lambda use: "seals" if use.seals else "" if use.here else "missing here",
        },
        as_json=False,
        nothing="",
    )
    for use in uses:
        if use.removable:
            typer.echo(
                f"{use.key!r} seals nothing any more: it may be removed, once every process runs with the new key first"
                " and this command has found nothing more to do.",
                err=True,
            )
    unreadable = sum(page.unreadable for page in tables.values())
    if unreadable:
        typer.echo(
            f"slotwire: {unreadable} secrets do not open with the vault's keys and were left as they are\n"
            "  Add the key that sealed them behind the others, then run this again. `slotwire doctor` names it.",
            err=True,
        )


def _show(items: list[KeyItem], *, as_json: bool) -> None:
    from slotwire.ingest.cli.listing import show

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
