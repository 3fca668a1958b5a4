"""Book, cancel, reschedule, and mark no-shows at Calendly, each once, and see what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from slotwire.ingest.cli.acting import act, checked, list_items
from slotwire.ingest.cli.listing import json_line, print_items
from slotwire.ingest.cli.options import AsJson, Limit, Organization

if TYPE_CHECKING:
    from slotwire.ingest.operate.action_models import ActionItem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Book, cancel, reschedule, and mark no-shows at Calendly, each once, and see what became of it.",
)

Key = Annotated[
    str | None,
    typer.Option(
        "--key", help="Yours, of this action: give the same one to repeat it. Without one, one is made and printed."
    ),
]
ConnectionId = Annotated[
    UUID | None, typer.Option("--connection", help="The connection to act as.", show_default=False)
]
RetryNotSeen = Annotated[
    bool, typer.Option("--retry-not-seen", help="Call again if it is not_seen: it may happen twice.")
]
Moment = Annotated[
    datetime,
    typer.Option("--start", formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%SZ"], help="When the slot starts, in UTC."),
]
Reason = Annotated[str | None, typer.Option("--reason", help="The invitee reads it.", show_default=False)]
Everyone = Annotated[bool, typer.Option("--everyone", help="Cancel a meeting that several people booked.")]
InviteeArgument = Annotated[str, typer.Argument(metavar="INVITEE", help="The invitee's URI.")]


@app.command("list")
def list_(
    *,
    organization: Organization = None,
    state: Annotated[str | None, typer.Option(help="For example person, open or not_seen.", show_default=False)] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List actions, newest first."""
    from slotwire.ingest.operate.action_models import ActionQuery

    found = list_items(
        "actions",
        lambda actions, who, query: actions.performed.list(who, query),
        ActionQuery,
        limit=limit,
        organization=organization,
        state=state,
    )
    _show(found, as_json=as_json)


@app.command()
def show(*, action: Annotated[UUID, typer.Argument(help="The action's id.")], as_json: AsJson = False) -> None:
    """Show one action with all that is known of it."""
    item = act("actions", lambda actions, who: actions.performed.get(who, action))
    if as_json:
        typer.echo(json_line(item))
        return
    from slotwire.ingest.cli.listing import cell

    for name, value in item:
        typer.echo(f"{name.replace('_', ' '):16} {cell(value)}")


@app.command()
def decide(
    *,
    action: Annotated[UUID, typer.Argument(help="The action's id.")],
    outcome: Annotated[str, typer.Argument(metavar="done|not_done", help="What became of it.")],
    why: Annotated[str, typer.Option(help="How you know; it stays with the action.")],
    as_json: AsJson = False,
) -> None:
    """Say what became of an action that is with a person, not_seen or probable, or call off one that is not_sent."""
    from slotwire.ingest.operate.action_models import DecideRequest

    request = checked(DecideRequest, outcome=outcome, why=why)
    _show([act("actions", lambda actions, who: actions.performed.decide(who, action, request))], as_json=as_json)


@app.command("confirm-restore")
def confirm_restore(*, as_json: AsJson = False) -> None:
    """Let actions call without looking first again, after this database was restored, copied or failed over.

    First make sure that no caller still repeats a key from before.
    """
    done = act("actions", lambda actions, who: actions.performed.confirm_restore(who))
    said = "actions call without looking first from now on" if done.changed else "they did so already"
    typer.echo(json_line(done) if as_json else said)


@app.command()
def book(  # noqa: PLR0913 -- what a booking is made of
    *,
    event_type: Annotated[str, typer.Option(help="The event type's URI, or its bare id.")],
    start: Moment,
    email: Annotated[str, typer.Option(help="The invitee's e-mail address.")],
    name: Annotated[str, typer.Option(help="The invitee's name.")],
    timezone: Annotated[str, typer.Option(help="The invitee's time zone.")] = "UTC",
    location_kind: Annotated[
        str | None, typer.Option(help="As the event type calls it; leave it out for round robin.", show_default=False)
    ] = None,
    location: Annotated[
        str | None, typer.Option(help="An address or number, where the kind needs one.", show_default=False)
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(metavar="QUESTION=ANSWER", help="May be repeated.", show_default=False),
    ] = None,
    guest: Annotated[
        list[str] | None, typer.Option(help="A guest's e-mail address; may be repeated.", show_default=False)
    ] = None,
    key: Key = None,
    organization: Organization = None,
    connection: ConnectionId = None,
    retry_not_seen: RetryNotSeen = False,
    as_json: AsJson = False,
) -> None:
    """Book a slot of an event type for somebody."""
    answers = [each.partition("=") for each in answer or []]
    _act(
        {
            "verb": "book",
            "event_type": event_type,
            "start_time": start.replace(tzinfo=UTC),
            "email": email,
            "name": name,
            "timezone": timezone,
            "location": None if location_kind is None else {"kind": location_kind, "location": location},
            "answers": [
                {"question": question, "answer": said, "position": place}
                for place, (question, _, said) in enumerate(answers)
            ],
            "guests": guest or [],
        },
        key=key,
        organization=organization,
        connection=connection,
        retry_not_seen=retry_not_seen,
        as_json=as_json,
    )


@app.command()
def cancel(
    *,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The scheduled event's URI, or its bare id.")],
    reason: Reason = None,
    everyone: Everyone = False,
    key: Key = None,
    organization: Organization = None,
    connection: ConnectionId = None,
    retry_not_seen: RetryNotSeen = False,
    as_json: AsJson = False,
) -> None:
    """Cancel a scheduled event: the whole meeting, for all its invitees."""
    _act(
        {"verb": "cancel", "scheduled_event": event, "reason": reason, "everyone": everyone},
        key=key,
        organization=organization,
        connection=connection,
        retry_not_seen=retry_not_seen,
        as_json=as_json,
    )


@app.command()
def reschedule(  # noqa: PLR0913 -- what a move is made of
    *,
    invitee: InviteeArgument,
    start: Moment,
    reason: Reason = None,
    everyone: Everyone = False,
    may_lose_slot: Annotated[
        bool, typer.Option("--may-lose-slot", help="Cancel the old slot first where the new one cannot come first.")
    ] = False,
    key: Key = None,
    organization: Organization = None,
    connection: ConnectionId = None,
    retry_not_seen: RetryNotSeen = False,
    as_json: AsJson = False,
) -> None:
    """Book a new slot for an invitee, then cancel the old one. For a moment they hold two, and they get two mails."""
    _act(
        {
            "verb": "reschedule",
            "invitee": invitee,
            "start_time": start.replace(tzinfo=UTC),
            "reason": reason,
            "everyone": everyone,
            "may_lose_slot": may_lose_slot,
        },
        key=key,
        organization=organization,
        connection=connection,
        retry_not_seen=retry_not_seen,
        as_json=as_json,
    )


@app.command("mark-no-show")
def mark_no_show(
    *,
    invitee: InviteeArgument,
    key: Key = None,
    organization: Organization = None,
    connection: ConnectionId = None,
    retry_not_seen: RetryNotSeen = False,
    as_json: AsJson = False,
) -> None:
    """Mark an invitee as a no-show."""
    _act(
        {"verb": "mark_no_show", "invitee": invitee},
        key=key,
        organization=organization,
        connection=connection,
        retry_not_seen=retry_not_seen,
        as_json=as_json,
    )


@app.command("clear-no-show")
def clear_no_show(
    *,
    mark: Annotated[str, typer.Argument(metavar="MARK", help="The mark's URI, or its bare id.")],
    key: Key = None,
    organization: Organization = None,
    connection: ConnectionId = None,
    retry_not_seen: RetryNotSeen = False,
    as_json: AsJson = False,
) -> None:
    """Clear a no-show mark."""
    _act(
        {"verb": "clear_no_show", "mark": mark},
        key=key,
        organization=organization,
        connection=connection,
        retry_not_seen=retry_not_seen,
        as_json=as_json,
    )


def _act(action: dict[str, Any], *, key: str | None, as_json: bool, **options: Any) -> None:
    """Have it done; the exit status is 1 while it is not done."""
    from uuid import uuid4

    from slotwire.ingest.operate.action_models import ActionRequest

    given = key or str(uuid4())
    if key is None:
        typer.echo(f"to repeat this action, give --key {given}", err=True)
    request = checked(ActionRequest, idempotency_key=given, action=action, **options)
    item, _ = act("actions", lambda actions, who: actions.performed.create(who, request))
    _show([item], as_json=as_json)
    if item.state not in {"done", "done_by_other"}:
        said = item.reason or "its outcome is not known yet"
        said += f"; it goes on by itself at {item.held_until:%Y-%m-%dT%H:%M:%SZ}" if item.held_until else ""
        typer.echo(f"{item.state}: {said}. See: slotwire actions show {item.id}", err=True)
        raise typer.Exit(1)


def _show(items: list[ActionItem], *, as_json: bool) -> None:
    print_items(
        items,
        {
            "ID": lambda item: item.id,
            "ORGANIZATION": lambda item: item.organization,
            "VERB": lambda item: item.verb,
            "STATE": lambda item: item.state,
            "EVIDENCE": lambda item: item.evidence,
            "INTENDED": lambda item: item.intended_at,
            "SETTLED": lambda item: item.settled_at,
            "RESULT": lambda item: item.mark or item.invitee or item.scheduled_event,
        },
        as_json=as_json,
        nothing="no actions",
    )
