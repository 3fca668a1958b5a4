"""Make, list and revoke keys: of the management API, of webhooks; rotate the vault's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.actions import Actions
    from slotwire.ingest.operate.models import KeyItem
    from slotwire.ingest.operate.roles import Principal
    from slotwire.ingest.operate.signing_key_models import SigningKeyRevoked, SigningKeysRotated
    from slotwire.ingest.operate.vault_rotation import KeyUse, RotationProgress

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Make, list and revoke keys: of the management API, of webhooks; rotate the vault's.",
)
api = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys of the management API, straight in Postgres.")
app.add_typer(api, name="api")
vault = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys that encrypt the secrets in the database.")
app.add_typer(vault, name="vault")
signing = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys that Calendly signs deliveries with.")
app.add_typer(signing, name="signing")


@api.command()
def create(
    *,
    role: Annotated[
        str, typer.Option(help="reader reads the log; operator also changes subscriptions; admin also makes keys.")
    ],
    organization: Annotated[
        str | None, typer.Option(help="The only organization it may reach; all when left out.", show_default=False)
    ] = None,
    label: Annotated[str, typer.Option(help="What it is for.", show_default=False)] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once, on standard output. Only its hash is stored."""
    from slotwire.ingest.operate.models import KeyRequest

    request = checked(KeyRequest, role=role, organization=organization, label=label)
    made = act("keys", lambda actions, who: actions.keys.create(who, request))
    if as_json:
        typer.echo(json_line(made))
        return
    typer.echo(f"{made.role} key {made.id}; it is shown only this once:", err=True)
    typer.echo(made.key)


@api.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List keys, without their secret part."""
    from slotwire.ingest.operate.models import PageQuery

    _show(list_items("keys", lambda actions, who, query: actions.keys.list(who, query), PageQuery), as_json=as_json)


@api.command()
def revoke(
    *, key: Annotated[UUID, typer.Argument(help="The key's id, not the key itself.")], as_json: AsJson = False
) -> None:
    """Revoke a key, effective at once."""
    _show([act("keys", lambda actions, who: actions.keys.revoke(who, key))], as_json=as_json)


@signing.command("list")
def list_signing(*, organization: Organization = None, as_json: AsJson = False) -> None:
    """List signing keys by id, those of ended subscriptions too. The keys themselves are never shown."""
    from slotwire.ingest.operate.models import PageQuery

    found = list_items(
        "keys", lambda actions, who, query: actions.signing_keys.list(who, organization, query), PageQuery
    )
    print_items(
        found,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "SUBSCRIPTION": lambda item: item.subscription_id,
            "STATE": lambda item: item.subscription_state,
            "CREATED": lambda item: item.created_at,
        },
        as_json=as_json,
        nothing="no signing keys: no subscription has one",
    )


@signing.command("revoke")
def revoke_signing(
    *, key: Annotated[UUID, typer.Argument(help="The signing key's id.")], as_json: AsOneJson = False
) -> None:
    """Revoke a signing key, effective at once: no process accepts anything that it signed from then on.

    Calendly gives a subscription no new key, so one that has no other key ends, and is replaced if it is wanted. Exits
    with 1 when Calendly could not be asked; `slotwire control` then tries again in its rounds.
    """
    done = act("keys", lambda actions, who: actions.signing_keys.revoke(who, None, key))
    if as_json:
        typer.echo(json_line(done))
    else:
        _tell_revoked(done)
    if done.problem is not None:
        raise typer.Exit(1)


@signing.command("rotate")
def rotate_signing(
    *,
    organization: Annotated[
        str | None,
        typer.Argument(metavar="ORG", help="Not needed if you have only one organization.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The subscriptions of all organizations.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give subscriptions other signing keys, without a gap: each is replaced, because Calendly changes no key.

    The old subscription, with its key, goes on until a delivery has come over the new one. With --all the new ones are
    made by `slotwire control`. Exits with 1 when they could not be made at once.
    """
    if everything and organization is not None:
        raise typer.BadParameter("name an organization, or give --all, not both")

    async def work(actions: Actions, who: Principal) -> SigningKeysRotated:
        if everything:
            return await actions.signing_keys.rotate_all(who)
        return await actions.signing_keys.rotate(who, await actions.organizations.named(who, organization))

    done = act("keys", work)
    print_items(
        done.subscriptions,
        {
            "ORGANIZATION": lambda item: item.organization,
            "SUBSCRIPTION": lambda item: item.subscription_id,
            "REPLACED BY": lambda item: item.by,
        },
        as_json=as_json,
        nothing="no subscription needs another key: all are being replaced already, an OAuth app's keys sign for them,"
        " or there is none",
    )
    if done.problem is not None:
        typer.echo(f"slotwire: not made yet: {done.problem}\n  `slotwire control` tries again in its rounds.", err=True)
        raise typer.Exit(1)


def _tell_revoked(done: SigningKeyRevoked) -> None:
    typer.echo(f"revoked {done.id}: nothing that it signed is accepted any more")
    if done.subscription_ended:
        after = f"replaced by {done.replaced_by}" if done.replaced_by else "not replaced"
        typer.echo(f"subscription {done.subscription_id} ended, {after}")
    if done.problem is not None:
        typer.echo(
            f"slotwire: Calendly could not be asked: {done.problem}\n  `slotwire control` tries again in its rounds.",
            err=True,
        )


@vault.command()
def rotate(*, as_json: AsJson = False) -> None:
    """Encrypt every secret with the vault's first key. You can interrupt this and run it again.

    First put the new key in front of the old one in SLOTWIRE_VAULT__KEYS, in every process; then run this.
    Exits with 1 when none of the keys opens a secret.
    """

    async def work(actions: Actions, who: Principal) -> tuple[dict[str, RotationProgress], tuple[KeyUse, ...]]:
        tables: dict[str, RotationProgress] = {}
        async for page in actions.keys.rotate_vault(who):
            tables[page.table] = page
            if not as_json:
                typer.echo(f"{page.table}: {page.resealed} re-encrypted{'' if page.done else ' …'}", err=True)
        return tables, await actions.keys.vault_use(who)

    tables, uses = act("keys", work)
    _tell_rotation(tables, uses, as_json=as_json)
    if any(page.unreadable for page in tables.values()):
        raise typer.Exit(1)


def _tell_rotation(tables: dict[str, RotationProgress], uses: tuple[KeyUse, ...], *, as_json: bool) -> None:

    if as_json:
        for item in (*tables.values(), *uses):
            typer.echo(json_line(item))
        return
    print_items(
        uses,
        {
            "KEY": lambda use: use.key or "(unknown form)",
            "SECRETS": lambda use: use.secrets,
            "": lambda use: "encrypts" if use.seals else "" if use.here else "missing here",
        },
        as_json=False,
        nothing="",
    )
    for use in uses:
        if use.removable:
            typer.echo(
                f"no secret uses {use.key!r} any more. Remove it once every process runs with the new key first and"
                " this command finds nothing left to do.",
                err=True,
            )
    unreadable = sum(page.unreadable for page in tables.values())
    if unreadable:
        typer.echo(
            f"slotwire: none of the vault's keys opens {unreadable} of the secrets; they were left as they are\n"
            "  Add the key that encrypted them behind the others, then run this again. `slotwire doctor` names it.",
            err=True,
        )


def _show(items: list[KeyItem], *, as_json: bool) -> None:

    print_items(
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
