"""List, show, approve and deny what agents ask for, and make links for those who are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import cell, json_line, print_items
from slotwire.ingest.cli.options import AsJson, AsOneJson, Limit, OfAgent, Organization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slotwire.ingest.operate.approval_models import ApprovalItem

app = typer.Typer(no_args_is_help=True, add_completion=False, help="List, show, approve and deny what agents ask for.")

Approval = Annotated[UUID, typer.Argument(help="The approval's id.")]
Digest = Annotated[str, typer.Option(help="The digest of what you have seen, as `show` prints it.")]


@app.command("list")
def list_(
    *,
    agent: OfAgent = None,
    organization: Organization = None,
    state: Annotated[
        Literal["open", "approved", "denied", "expired", "all"], typer.Option(help="Only in this state.")
    ] = "open",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what agents ask for, newest first."""
    from slotwire.ingest.operate.approval_models import ApprovalQuery

    found = list_items(
        "approvals",
        lambda actions, who, query: actions.approvals.list(who, query),
        ApprovalQuery,
        limit=limit,
        agent=agent,
        organization=organization,
        state=None if state == "all" else state,
    )
    _show(found, as_json=as_json)


@app.command()
def show(*, approval: Approval, as_json: AsOneJson = False) -> None:
    """Show one approval: what it is for may be personal data."""
    found = act("approvals", lambda actions, who: actions.approvals.get(who, approval))
    if as_json:
        typer.echo(json_line(found))
        return
    for name in type(found).model_fields:
        if getattr(found, name) is not None:
            typer.echo(f"{name + ':':<14}{cell(getattr(found, name))}")


@app.command()
def approve(*, approval: Approval, digest: Digest, as_json: AsJson = False) -> None:
    """Approve what an agent asks for: its run goes on."""
    _decide(approval, "approve", digest, as_json=as_json)


@app.command()
def deny(*, approval: Approval, digest: Digest, as_json: AsJson = False) -> None:
    """Deny what an agent asks for: its run goes on, and knows."""
    _decide(approval, "deny", digest, as_json=as_json)


@app.command()
def link(*, approval: Approval, as_json: AsOneJson = False) -> None:
    """Make the link under which the person who is asked decides in the browser, and print its address, once."""
    made = act("approvals", lambda actions, who: actions.approvals.link(who, approval))
    if as_json:
        typer.echo(json_line(made))
        return
    typer.echo(f"until {cell(made.expires_at)}; send it to the person who is asked, and to nobody else:", err=True)
    typer.echo(made.url)


def _decide(approval: UUID, decision: str, digest: str, *, as_json: bool) -> None:
    from slotwire.ingest.operate.approval_models import DecisionRequest

    request = checked(DecisionRequest, decision=decision, digest=digest)
    _show([act("approvals", lambda actions, who: actions.approvals.decide(who, approval, request))], as_json=as_json)


def _show(items: Sequence[ApprovalItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "APPROVAL": lambda item: item.id,
            "AGENT": lambda item: item.agent,
            "ORGANIZATION": lambda item: item.organization,
            "NAME": lambda item: item.name,
            "PERSON": lambda item: item.person,
            "STATE": lambda item: item.state,
            "EXPIRES": lambda item: item.expires_at,
            "WHAT": lambda item: item.what or "-",
        },
        as_json=as_json,
        nothing="no agent asks for an approval here",
    )
