"""Actions as they are stored. Each change names the epoch it was read at: who was taken for dead changes nothing.

intend ──▶ open ◀──▶ not_sent          open: a call may have left, or its answer was lost
            │
            └──▶ done · probable · done_by_other · refused · not_seen · person          docs/reference/states.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

import orjson

from slotwire.ingest.control.actions.holding import Held
from slotwire.ingest.control.actions.intents import INTENT, BookIntent, Intent
from slotwire.ingest.control.actions.settlement import Plan, StepName
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Pool, call_outright, read_queries, translated
from slotwire.ingest.receive.accept import AcceptRow, OwnEvent, committing, own_row
from slotwire.schemas.ids import OrganizationUri

COMMIT_SECONDS = 5.0
"""How long the commit of an intent, or of a settlement with its event, may take."""
MAX_REASON = 300
"""Characters of a reason."""

Verb: TypeAlias = Literal["book", "cancel", "reschedule", "mark_no_show", "clear_no_show"]
ActionState: TypeAlias = Literal[
    "open", "not_sent", "done", "probable", "done_by_other", "refused", "not_seen", "person", "not_done"
]
WAITING = ("open", "not_sent", "held", "person")
"""States of actions that are not settled, or wait for a person; those that a limit holds back apart."""
SQL = read_queries("slotwire.ingest.sql", "actions.sql")


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """An action as it is stored.

    Attributes:
        organization: the organization's URI.
        caller: who asked, as the audit names them.
        key: the caller's key for it.
        target: the URI of what it is done to.
        request: the intent as JSON; None when it is over.
        tag: what marks its booking at Calendly; None where it carries none.
        step: what is done now, or was done last.
        step_at: when the intent of that was first committed; `head`: the log's last event then.
        called_at: when the intent of its last call was.
        calls: of the step that may have left; the one that is under way counts.
        reads: looks at Calendly since the last call, `read_at` the last of them.
        accepted: what the door had accepted at the first of them.
        facts: of a reschedule, what was known before it and what its steps came to.
        due_at: when it is looked at next; until then it is its claimant's.
        settlements: how often it was settled.
    """

    id: UUID
    org: str
    organization: OrganizationUri
    caller: str
    key: str
    fingerprint: bytes = field(repr=False)
    verb: Verb
    connection_id: UUID
    user_uri: str
    target: str
    request: str | None = field(repr=False)
    tag: str | None
    state: ActionState
    reason: str | None
    evidence: Literal["answer", "webhook", "read", "person"] | None
    step: StepName
    step_at: datetime
    called_at: datetime
    head: int
    calls: int
    reads: int
    read_at: datetime | None
    accepted: int | None
    facts: Mapping[str, Any] = field(repr=False)
    invitee: str | None
    scheduled_event: str | None
    mark: str | None
    epoch: int
    due_at: datetime | None
    settlements: int
    intended_at: datetime
    settled_at: datetime | None
    decided_by: str | None
    note: str | None

    @property
    def intent(self) -> Intent:
        """What was asked for, while it is not over."""
        found: Intent = INTENT.validate_python(self._stored["intent"])
        return found

    @property
    def booking(self) -> BookIntent:
        """What its step books: the slot that was asked for, or the old one of a reschedule again."""
        booking = BookIntent.model_validate(self._stored["booking"])
        if self.step != "restore":
            return booking
        return booking.model_copy(update={"start_time": datetime.fromisoformat(self.facts["old_start"])})

    @property
    def booking_tag(self) -> str | None:
        """The tag that this booking carries."""
        return f"{self.tag}r" if self.tag is not None and self.step == "restore" else self.tag

    @property
    def meeting(self) -> str:
        """The scheduled event that its step cancels."""
        return str(self.facts.get("old_event", self.target))

    @property
    def asked_at(self) -> datetime:
        """When its step was first asked for, or its caller last chose to call again."""
        chosen = self.facts.get("asked_at")
        return self.step_at if chosen is None else max(self.step_at, datetime.fromisoformat(chosen))

    @property
    def held(self) -> Held | None:
        """What holds its call back; None if it waits for no limit of Calendly's."""
        return Held.read(self.facts.get("held")) if self.state == "not_sent" else None

    @property
    def untouched(self) -> bool:
        """Whether certainly nothing was done for it: no call of its first step has left."""
        first = "cancel" if self.plan == "cancel_first" else "book"
        return self.state == "not_sent" and self.calls == 0 and (self.verb != "reschedule" or self.step == first)

    @property
    def may_lose_slot(self) -> bool:
        """Of a reschedule: whether the old slot may be given up first."""
        return bool(self.facts.get("may_lose_slot"))

    @property
    def _stored(self) -> dict[str, Any]:
        if self.request is None:
            raise AssertionError("what was asked for is gone: it is over")
        found: dict[str, Any] = orjson.loads(self.request)
        return found

    @property
    def plan(self) -> Plan:
        """Of a reschedule: which slot comes first."""
        return "cancel_first" if self.facts.get("plan") == "cancel_first" else "new_first"


class ActionElsewhere(Exception):
    """Another process has the action by now."""


def record_of(row: Any) -> ActionRecord:
    """Read a row."""
    values = dict(row)
    values["facts"] = orjson.loads(values["facts"])
    return ActionRecord(**values)


async def read_action(pool: Pool, action: UUID, org: str | None = None) -> ActionRecord:
    """Read one action of an organization, or of any (None).

    Raises:
        RequestRefused: there is none, or it belongs to another organization (`not_found`).
    """
    with translated():
        row = await pool.fetchrow(SQL["action"], action, org)
    if row is None:
        raise RequestRefused(
            "there is no such action within reach", code="not_found", remedy="List them: slotwire actions list"
        )
    return record_of(row)


async def read_of_key(pool: Pool, org: str, caller: str, key: str) -> ActionRecord | None:
    """Read the action of a caller's key; None if the key is new."""
    with translated():
        row = await pool.fetchrow(SQL["action_of_key"], org, caller, key)
    return None if row is None else record_of(row)


async def read_actions(
    pool: Pool, org: str | None, *, before: UUID | None, state: str | None, limit: int
) -> tuple[ActionRecord, ...]:
    """List actions of one organization, or of all (None), the newest first."""
    with translated():
        rows = await pool.fetch(SQL["actions_page"], org, before, state, limit)
    return tuple(map(record_of, rows))


@dataclass(frozen=True, slots=True)
class NewAction:
    """What an intent commits, column by column."""

    id: UUID
    org: str
    caller: str
    key: str
    fingerprint: bytes = field(repr=False)
    verb: str
    connection_id: UUID
    user_uri: str
    target: str
    request: str = field(repr=False)
    tag: str | None
    step: StepName
    facts: Mapping[str, Any] = field(repr=False)

    def columns(self) -> str:
        """Write them as JSON."""
        told = {name: getattr(self, name) for name in self.__slots__ if name != "org"}
        told |= {"fingerprint": f"\\x{self.fingerprint.hex()}", "request": orjson.Fragment(self.request)}
        return orjson.dumps(told, default=str).decode()  # of an id that asyncpg made, orjson knows nothing


async def intend(
    pool: Pool, new: NewAction, move: AcceptRow | None, *, now: datetime, due_at: datetime
) -> ActionRecord:
    """Commit an intent before its call, with what the writer is told; where the key was taken, read what has it.

    Raises:
        DatabaseUnavailable: it may be committed or not; nothing was called.
    """
    with translated():
        shard = await pool.fetchval(SQL["shard_of_action"], new.org)
    async with committing(pool, shard) as connection:
        row = await call_outright(
            connection, SQL["intend_action"], new.org, now, due_at, new.columns(), move, seconds=COMMIT_SECONDS
        )
    return await read_action(pool, row["intend_action"])


async def claim_action(pool: Pool, *, now: datetime, until: datetime) -> ActionRecord | None:
    """Claim the action that has been due for longest; None if none is due."""
    with translated():
        row = await pool.fetchrow(SQL["claim_action"], now, until)
    return None if row is None else record_of(row)


async def keep_action(pool: Pool, record: ActionRecord) -> None:
    """Store what is known so far: state, reason, calls, reads, facts and when it is due.

    Raises:
        ActionElsewhere: another process has it by now.
    """
    with translated():
        kept = await pool.fetchval(
            SQL["keep_action"],
            *(record.id, record.epoch, record.state, record.reason, record.calls, record.reads, record.read_at),
            *(record.accepted, record.due_at, orjson.dumps(record.facts).decode()),
        )
    if kept is None:
        raise ActionElsewhere


async def begin_step(  # noqa: PLR0913 -- what a step begins with
    pool: Pool,
    record: ActionRecord,
    step: StepName,
    *,
    now: datetime,
    lasts: timedelta,
    calls: int = 1,
    facts: Mapping[str, Any] | None = None,
    invitee: str | None = None,
    scheduled_event: str | None = None,
) -> ActionRecord:
    """Commit the intent of a step, or of the same again, before its call; return the action as it is then.

    Raises:
        ActionElsewhere: another process has it by now.
    """
    with translated():
        row = await pool.fetchrow(
            SQL["begin_step"],
            *(record.id, record.epoch, step, now, calls, orjson.dumps(facts or {}).decode(), invitee, scheduled_event),
            now + lasts,
        )
    if row is None:
        raise ActionElsewhere
    return record_of(row)


async def settle_action(
    pool: Pool,
    record: ActionRecord,
    event: OwnEvent,
    *,
    now: datetime,
    decision: tuple[str, str] | None = None,
) -> ActionRecord:
    """Store an action as it becomes, with the event that says so.

    Args:
        pool: the database.
        record: the action as it becomes; its epoch is that of before.
        event: says so.
        now: the time.
        decision: who decided, and why; None where nobody did.

    Raises:
        ActionElsewhere: another process has it by now.
    """
    with translated():
        shard = await pool.fetchval(SQL["shard_of_action"], record.org)
    uris = [record.invitee, record.scheduled_event, record.mark]
    async with committing(pool, shard) as connection:
        row = await call_outright(
            connection,
            SQL["settle_action"],
            *(record.id, record.epoch, now, record.state, record.reason, record.evidence, uris),
            *(None if decision is None else list(decision), own_row(record.org, event, now)),
            seconds=COMMIT_SECONDS,
        )
    if row["settle_action"] is None:
        raise ActionElsewhere
    return await read_action(pool, record.id)


async def remembered(pool: Pool) -> bool:
    """Whether actions call without looking first: not after a restore, until somebody ends that."""
    with translated():
        found: bool = await pool.fetchval(SQL["actions_remembered"])
    return found


async def remember(pool: Pool, now: datetime) -> bool:
    """Let actions call without looking first on this server; return whether they looked before."""
    with translated():
        changed: bool = await pool.fetchval(SQL["remember_actions"], now)
    return changed


def shortened(reason: str) -> str:
    """Return a reason that a row can keep."""
    return reason[:MAX_REASON]
