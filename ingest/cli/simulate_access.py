"""Commands of `slotwire simulate` for tokens, members, plans, the OAuth app and the record of REST calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slotwire.ingest.cli.simulator_calls import AsJson, Url, connected, seconds_in, show


def world(url: Url = None, as_json: AsJson = False) -> None:
    """Show organizations, users and tokens. The tokens are valid at this simulator only."""
    with connected(url) as client:
        found = client.get("world")
    for organization in found["organizations"]:
        if as_json:
            show(organization)
            continue
        show(f"{organization['name']}  {organization['uri']}")
        for user in organization["users"]:
            show(f"  {user['role']:6} {user['name']:22} {user['uri']}\n         {user['tokens'][0]['token']}")


def token(
    user: Annotated[str | None, typer.Option(help="Id or URI; if left out, the organization's owner.")] = None,
    organization: Annotated[str | None, typer.Option(help="Id or URI; if left out, the first one.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="For example webhooks:write; may be repeated; all scopes if left out.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option(help="For example 90s or 24h; never if left out.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a token with chosen scopes and print it. It is valid at this simulator only."""
    lasts = None if expires_in is None else seconds_in(expires_in)
    with connected(url) as client:
        made = client.post(
            "tokens", user=user, organization=organization, scopes=scope or None, expires_in_seconds=lasts
        )
    show(made if as_json else made["token"])


def token_state(
    state: Annotated[str, typer.Argument(help="revoked, expired or valid.")],
    token_file: Annotated[Path, typer.Option(help="A file that holds the token.", exists=True, dir_okay=False)],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token, expire it, or make it valid again."""
    with connected(url) as client:
        found = client.post("tokens/state", token=token_file.read_text(encoding="utf-8").strip(), state=state)
    show(found if as_json else f"the token of {found['user']} is {found['state']}")


def user(
    ident: Annotated[str, typer.Argument(metavar="USER", help="Id or URI.")],
    role: Annotated[str | None, typer.Option(help="owner, admin or user.")] = None,
    organization: Annotated[str | None, typer.Option(help="The organization to move to: id or URI.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a user another role, or move them to another organization."""
    with connected(url) as client:
        found = client.post("users", user=ident, role=role, organization=organization)
    show(found if as_json else f"{found['user']['uri']} is {found['role']} of {found['organization']}")


def plan(
    organization: Annotated[str, typer.Argument(help="Id or URI.")],
    plan: Annotated[str | None, typer.Option(help="free, or any other name for a paid plan.")] = None,
    webhooks: Annotated[
        bool | None, typer.Option("--webhooks/--no-webhooks", help="Whether the plan includes webhooks.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change an organization's plan."""
    with connected(url) as client:
        found = client.post("organizations", organization=organization, plan=plan, webhooks=webhooks)
    without = "" if found["webhooks"] else ", without webhooks"
    show(found if as_json else f"{found['uri']} has the plan {found['plan']}{without}")


def oauth(
    rotate_signing_key: Annotated[bool, typer.Option("--rotate-signing-key", help="Sign with a new key.")] = False,
    revoke_user: Annotated[str | None, typer.Option(help="Revoke what this user granted the app: id or URI.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the OAuth app, rotate its signing key, or revoke what a user granted it."""
    with connected(url) as client:
        if rotate_signing_key or revoke_user:
            found = client.post("oauth", rotate_signing_key=rotate_signing_key, revoke_user=revoke_user)
        else:
            found = client.get("oauth")
    shown = (f"{name.replace('_', ' '):14} {found[name]}" for name in ("client_id", "client_secret", "signing_key"))
    show(found if as_json else "\n".join((*shown, f"{'grants':14} {found['grants']}")))


def calls(
    foreign: Annotated[
        bool,
        typer.Option(
            "--foreign", help="Only calls that name something of another organization; exits with 1 if there are any."
        ),
    ] = False,
    organization: Annotated[str | None, typer.Option(help="Only calls by its users: id or URI.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the REST calls since the simulator's start, and which of them named another organization."""
    wanted = {"organization": organization} if organization else {}
    with connected(url) as client:
        after: int | None = 0
        while after is not None:
            page = client.get("calls", **wanted, after=after, count=1000, foreign=str(foreign).lower())
            for item in page["items"]:
                show(item if as_json else _call_in_words(item))
            after = page["next_cursor"]
        counts = client.get("calls/summary")
    if not as_json:
        show(f"{counts['calls']} calls, {counts['foreign_calls']} of them foreign")
    if foreign and counts["foreign_calls"]:
        raise typer.Exit(1)


def _call_in_words(item: dict[str, Any]) -> str:
    what = f"{item['number']:>6}  {item['status']}  {item['method']:6} {item['path']}"
    return f"{what}  by {item['user'] or 'an unknown caller'}{'  FOREIGN' if item['foreign'] else ''}"
