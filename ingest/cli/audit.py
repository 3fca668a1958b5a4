"""Show who did what, here and at Calendly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import list_items
from slotwire.ingest.cli.listing import print_csv, print_items
from slotwire.ingest.cli.options import AsCsv, AsJson, Limit, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.audit_models import AuditItem
    from slotwire.ingest.operate.uses_models import UseItem

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Show who did what, here and at Calendly.")


@app.callback()
def _audit() -> None:
    """Show who did what, here and at Calendly."""


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
    as_csv: AsCsv = False,
) -> None:
    """List changes, newest first, with the attempts that were refused."""
    from slotwire.ingest.operate.audit_models import AuditItem, AuditQuery

    found = list_items(
        "audit",
        lambda actions, who, query: actions.audit.list(who, query),
        AuditQuery,
        limit=limit,
        organization=organization,
        action=action,
        actor=actor,
    )
    if as_csv:
        print_csv(found, AuditItem)
        return
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


@app.command("uses")
def uses(  # noqa: PLR0913 -- one option a filter
    *,
    organization: Organization = None,
    user: Annotated[str | None, typer.Option(help="Only as this user, by its URI.", show_default=False)] = None,
    action: Annotated[
        str | None, typer.Option(help="Only this operation, for example post-invitee.", show_default=False)
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option(
            help="Only on behalf of this actor: the id of a key, 'command line' or 'control'.", show_default=False
        ),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only for this agent.", show_default=False)] = None,
    event: Annotated[UUID | None, typer.Option(help="Only for this event.", show_default=False)] = None,
    target: Annotated[str | None, typer.Option(help="Only about this, by its URI.", show_default=False)] = None,
    email: Annotated[
        str | None, typer.Option(help="Only calls that named this mail address.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from then on, for example 2026-11-26T00:00Z.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only before then.", show_default=False)] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """List what was done at Calendly with customers' credentials, newest first: as which user, on whose behalf."""
    from slotwire.ingest.operate.uses_models import UseItem, UsesQuery

    found = list_items(
        "audit",
        lambda actions, who, query: actions.uses.list(who, query),
        UsesQuery,
        limit=limit,
        organization=organization,
        user=user,
        action=action,
        actor=actor,
        agent=agent,
        event=event,
        target=target,
        email=email,
        since=since,
        until=until,
    )
    if as_csv:
        print_csv(found, UseItem)
        return
    print_items(
        found,
        {
            "TIME": lambda item: item.at,
            "ACTION": lambda item: item.action,
            "RESULT": _use_result,
            "ORGANIZATION": lambda item: item.organization,
            "USER": lambda item: _last(item.user),
            "TARGET": lambda item: _last(item.target),
            "ACTOR": lambda item: item.actor,
            "AGENT": lambda item: item.agent,
        },
        as_json=as_json,
        nothing="no call yet",
    )


def _last(uri: str | None) -> str | None:
    """Return the kind and the id at the end of a URI."""
    return None if uri is None else "/".join(uri.rsplit("/", 2)[1:])


def _use_result(item: UseItem) -> str:
    said = f"{item.result}: {item.code}" if item.code else item.result
    return said if item.times == 1 else f"{said}, {item.times} {'turns' if item.action == 'lease' else 'times'}"


def _result(item: AuditItem) -> str:
    often = "" if item.times == 1 else f", {item.times} times"
    return item.result if item.code is None else f"{item.result}: {item.code}{often}"
