"""Models of the management API for agents' runs. Their docstrings are its documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import Field, model_validator

from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.ingest.operate.run_pages import RunEntry, RunRow

MAX_NOTE = 1_000
MAX_DECIDED_BYTES = 32_768
"""Of what a person says that a step returned, as JSON."""

RunState = Literal["running", "waiting", "ready", "parked", "unknown", "diverged", "given_up"]


class RunQuery(PageQuery):
    """Which runs to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    agent: str | None = Field(None, min_length=1, max_length=63)
    """Only of this agent, as in `Agent("crm")`."""
    state: RunState | None = None
    """Only in this state."""


class RunItem(Model):
    """A run of an agent that has steps or waits, until its event is done."""

    id: UUID
    """Its id."""
    agent: str
    """The agent's name."""
    event_id: UUID
    """Its event."""
    organization: str
    """The organization of its event."""
    type: str
    """The type of its event."""
    subject: str
    """The invitee or resource of its event, by its URI at Calendly."""
    version: str
    """The version of the agent that it ends on."""
    state: Literal[RunState, "canceled"]
    """`unknown` and `diverged` are held for a person, `parked` for another version; `canceled` answers a cancel."""
    reason: str
    """Why it is held, or was given up."""
    attempts: int
    """How often it failed."""
    waits_for: str | None
    """The name of the wait that is open."""
    began_at: datetime
    """When it began."""
    changed_at: datetime
    """Since when it is in this state."""
    due_at: datetime | None
    """When it goes on by itself."""
    decided_by: str | None
    """Who said last how a step of unknown outcome ended."""
    note: str | None
    """How they know."""


class StepDecision(Model):
    """How the step ended for which a run is held as `unknown`, as a person found out."""

    step: str = Field(min_length=1, max_length=200)
    """Its name: the last one of the run's journal."""
    outcome: Literal["done", "not_done"]
    """`done`: it has had its effect, and is not called again. `not_done`: it has not, and is called again with the same
    key."""
    result: Any = None
    """What it returned, as JSON: the handler gets it. Only with `done`."""
    why: str = Field(min_length=1, max_length=MAX_NOTE)
    """How you know; it stays with the run."""

    @model_validator(mode="after")
    def _only_what_is_done_returns(self) -> StepDecision:
        if self.outcome == "not_done" and self.result is not None:
            raise ValueError("result: a step that has not happened returned nothing")
        try:
            size = len(self.stored)
        except TypeError:
            raise ValueError("result: a number in it is too large to be stored") from None
        if size > MAX_DECIDED_BYTES:
            raise ValueError(f"result: at most {MAX_DECIDED_BYTES} bytes of JSON")
        return self

    @property
    def stored(self) -> bytes:
        """The result as the journal has it."""
        return orjson.dumps(self.result)


class RunPage(Page):
    """Runs."""

    items: tuple[RunItem, ...]


class RunStep(Model):
    """A step or a wait of a run."""

    name: str
    """As the handler calls it."""
    kind: Literal["step", "wait", "approval"]
    """A step, a wait for an event, or for a decision."""
    state: Literal["started", "open", "ended"]
    """A step that was started and has not ended is one of unknown outcome, or runs now."""
    result: str | None
    """What a step returned, as JSON, which may be personal data. Null for a key with the role `reader`."""
    awaited: tuple[str, ...]
    """The event types that may end a wait."""
    deadline: datetime | None
    """When a wait ends by itself."""
    began_at: datetime
    """When it began."""
    ended_at: datetime | None
    """When it ended."""


class RunDetail(RunItem):
    """A run with its journal."""

    journal: tuple[RunStep, ...]
    """Its steps and waits, in order."""


def run_item(row: RunRow, *, canceled: bool = False) -> RunItem:
    """Show a run."""
    return RunItem.model_validate({**_fields(row), **({"state": "canceled"} if canceled else {})})


def run_detail(row: RunRow, entries: tuple[RunEntry, ...], *, with_results: bool) -> RunDetail:
    """Show a run with its journal, and what its steps returned if the caller may see it."""
    journal = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "state": entry.state,
            "result": None if entry.result is None or not with_results else entry.result.decode(),
            "awaited": entry.awaited,
            "deadline": entry.deadline,
            "began_at": entry.began_at,
            "ended_at": entry.ended_at,
        }
        for entry in entries
    ]
    return RunDetail.model_validate({**_fields(row), "journal": journal})


def _fields(row: RunRow) -> dict[str, object]:
    return {
        "id": row.id,
        "agent": row.agent,
        "event_id": row.event_id,
        "organization": row.org,
        "type": row.type,
        "subject": row.subject,
        "version": row.version,
        "state": row.state,
        "reason": row.reason,
        "attempts": row.attempts,
        "waits_for": row.waits_for,
        "began_at": row.began_at,
        "changed_at": row.changed_at,
        "due_at": row.due_at,
        "decided_by": row.decided_by,
        "note": row.note,
    }
