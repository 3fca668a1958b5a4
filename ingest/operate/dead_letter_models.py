"""Dead letters in the management API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from slotwire.ingest.operate.dead_letter_pages import LetterContent, LetterRow
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.ingest.operate.quarantine_models import MAX_NOTE

MAX_VALUE = 900_000
"""Characters of edited data; over HTTP the limit of bodies comes first."""
AgentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]

LetterState = Literal["open", "queued", "settled", "discarded"]


class DeadLetterQuery(PageQuery):
    """Which dead letters to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    agent: AgentName | None = None
    """Only of this agent."""
    state: LetterState | Literal["all"] = "open"
    """Only in this state; `all` lists every state."""


class DeadLetterItem(Model):
    """A record that an agent gave up, without what it holds."""

    id: UUID
    """The dead letter's id."""
    agent: str
    """Who gave it up."""
    organization: str | None
    """The last segment of Calendly's organization URI; null, like the event's fields, if the record is no event."""
    event_id: UUID | None
    """Its event."""
    type: str | None
    """The event's type."""
    subject: str | None
    """The URI of the invitee or resource that the event is about."""
    position: int | None
    """The event's position in the log."""
    newer_position: int | None
    """The position of the newest event of its key that the agent has done since; null if there is none."""
    reason: str
    """Why it was given up, without personal data."""
    attempts: int
    """Runs of its handler that counted; 0 if none ran."""
    at: datetime
    """When it was given up, last."""
    times: int
    """How often it was given up."""
    state: LetterState
    """`queued` while it waits to be handled again; `settled` once it was; `discarded` once an operator said so."""
    changed_at: datetime
    """Since when."""
    note: str | None
    """Why it was discarded."""
    edited_at: datetime | None
    """When its data was edited."""
    edited_by: str | None
    """Who edited it, as the audit names them."""
    topic: str
    """Where its record is."""
    partition: int
    """Where its record is."""
    offset: int
    """Where its record is."""
    value_bytes: int
    """The length of its data."""


class DeadLetterPage(Page):
    """Dead letters."""

    items: tuple[DeadLetterItem, ...]


class HeaderItem(Model):
    """A header of a record."""

    name: str
    """Its name; one may occur twice."""
    value: str
    """Its value as text."""


class DeadLetterDetail(DeadLetterItem):
    """A dead letter with what it holds. The last four are null for a key with the role `reader`."""

    trace: str
    """Where it failed: modules, lines and functions, the innermost place first."""
    key: str | None
    """The record's key."""
    headers: tuple[HeaderItem, ...] | None
    """The record's headers."""
    value: str | None
    """The record's data, which holds personal data."""
    edited_value: str | None
    """The data that an operator put in its place."""


class RedriveRequest(Model):
    """How to drive a dead letter again."""

    discard_older: bool = False
    """Discard it if it is older than what its agent has done since for the same key."""
    drop_journal: bool = False
    """Forget what its run has done so far: steps that ended run once more, with effects outside, too."""


class EditRequest(Model):
    """Other data for a dead letter."""

    value: str = Field(min_length=2, max_length=MAX_VALUE)
    """The event's data as JSON, as the schema of its type says."""


class LetterDiscardRequest(Model):
    """Why you discard a dead letter."""

    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NOTE)]
    """The reason, which is stored with it."""


class AllLettersRequest(RedriveRequest):
    """Which dead letters of an agent to drive again, all in one step: in the order of each key."""

    agent: AgentName
    """Whose."""
    organization: Org | None = None
    """Only of this organization."""
    reason: str | None = Field(None, min_length=1, max_length=500)
    """Only with this reason."""


def letter_item(row: LetterRow) -> DeadLetterItem:
    """Show a dead letter without what it holds."""
    return DeadLetterItem.model_validate(_fields(row))


def letter_detail(row: LetterRow, content: LetterContent, *, with_data: bool) -> DeadLetterDetail:
    """Show a dead letter, with what it holds if the caller may see it."""
    shown: dict[str, object] = {"key": None, "headers": None, "value": None, "edited_value": None}
    if with_data:
        headers = tuple(HeaderItem(name=name, value=_text(value) or "") for name, value in content.headers)
        texts = {"key": content.key, "value": content.value, "edited_value": content.edited}
        shown = {"headers": headers, **{name: _text(value) for name, value in texts.items()}}
    return DeadLetterDetail.model_validate({**_fields(row), "trace": content.trace, **shown})


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _fields(row: LetterRow) -> dict[str, object]:
    topic, partition, offset = row.record
    same = ("id", "agent", "event_id", "type", "subject", "reason", "attempts", "at", "times", "state", "changed_at")
    more = ("note", "edited_at", "edited_by", "value_bytes")
    return {
        **{name: getattr(row, name) for name in (*same, *more)},
        "organization": row.org,
        "position": row.sequence,
        "newer_position": row.newer,
        "topic": topic,
        "partition": partition,
        "offset": offset,
    }
