"""Actions in the management API: what callers have done at Calendly, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from slotwire.ingest.control.actions.intents import Intent
from slotwire.ingest.control.actions.records import ActionRecord, ActionState, Verb
from slotwire.ingest.operate.idempotency import KEY_FORM, MAX_KEY
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery

MAX_NOTE = 1_000


class ActionRequest(Model):
    """Have something done at Calendly, once for your key."""

    organization: Org | None = None
    """May be left out by a key that is bound to one."""
    idempotency_key: str = Field(min_length=1, max_length=MAX_KEY, pattern=f"^{KEY_FORM}$")
    """Yours, of this action: repeat the request with the same one as often as you like. It is known for at least 30
    days, within the organization and for your API key."""
    connection: UUID | None = None
    """As whose connection; the organization's most privileged one when left out."""
    retry_not_seen: bool = False
    """Call again if the action is `not_seen`. No read proves that an effect will not come: it may happen twice."""
    action: Intent
    """What is to be done."""


class DecideRequest(Model):
    """What became of an action, as a person found out."""

    outcome: Literal["done", "not_done"]
    """Whether it was done."""
    why: str = Field(min_length=1, max_length=MAX_NOTE)
    """How you know; it stays with the action."""


class ActionItem(Model):
    """An action, and what became of it."""

    id: UUID
    organization: str
    """The last segment of Calendly's organization URI."""
    caller: str
    """Who asked for it: `command line`, or the id of a key of this API."""
    idempotency_key: str
    """The caller's key for it."""
    verb: Verb
    connection_id: UUID
    """The connection it was done with."""
    user: str
    """The URI of that connection's user."""
    target: str
    """The URI of what it is done to: an event type, a scheduled event, an invitee or a mark."""
    state: ActionState
    """`open`: it is not known yet; the others are in docs/reference/states.md."""
    reason: str | None
    """Why it is not done, or not sent yet."""
    evidence: Literal["answer", "webhook", "read", "person"] | None
    """What showed its effect."""
    step: Literal["book", "cancel", "mark", "clear", "restore"]
    """What is done now, or was done last; `restore` books the old slot of a reschedule again."""
    calls: int
    """Calls of this step that may have left."""
    reads: int
    """Looks at Calendly since the last one that count."""
    due_at: datetime | None
    """When it is looked at next; null once nothing more happens by itself."""
    held_until: datetime | None
    """Until when a limit of Calendly's holds back its call, as far as is known: then it goes on by itself. Null where
    none does."""
    invitee: str | None
    """The invitee that it made, or that it was about."""
    scheduled_event: str | None
    """That invitee's scheduled event."""
    mark: str | None
    """The no-show mark that it set or cleared."""
    intended_at: datetime
    """When its intent was committed, before the call."""
    settled_at: datetime | None
    """When it was found out what became of it."""
    settlements: int
    """How often that was: a `not_seen` may be called again, and a person may decide."""
    decided_by: str | None
    """Who decided about it."""
    note: str | None
    """How they know."""


class ActionPage(Page):
    """Actions."""

    items: tuple[ActionItem, ...]


class ActionQuery(PageQuery):
    """Which actions to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    state: ActionState | None = None
    """Only in this state."""


class RestoreConfirmed(Model):
    """Whether actions looked first until now."""

    changed: bool
    """False if they called without looking first already."""


def action_item(record: ActionRecord) -> ActionItem:
    """Show an action."""
    return ActionItem(
        id=record.id,
        organization=record.org,
        caller=record.caller,
        idempotency_key=record.key,
        verb=record.verb,
        connection_id=record.connection_id,
        user=record.user_uri,
        target=record.target,
        state=record.state,
        reason=record.reason,
        evidence=record.evidence,
        step=record.step,
        calls=record.calls,
        reads=record.reads,
        due_at=record.due_at,
        held_until=None if record.held is None else record.held.until,
        invitee=record.invitee,
        scheduled_event=record.scheduled_event,
        mark=record.mark,
        intended_at=record.intended_at,
        settled_at=record.settled_at,
        settlements=record.settlements,
        decided_by=record.decided_by,
        note=record.note,
    )
