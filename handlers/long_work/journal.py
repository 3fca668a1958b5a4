"""The journal: what each run has done so far, and the events that are set aside while their runs wait.

A run is claimed by one member at a time. Each claim moves the run's `epoch`, and every statement of a run names it: a
member that was succeeded without hearing of it writes nothing.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

import orjson

from slotwire.handlers.firings import read_event
from slotwire.handlers.long_work.versions import JournalMigration
from slotwire.handlers.records import Partition, Record
from slotwire.schemas.codec import encode_data
from slotwire.schemas.envelope import Event

EntryKind = Literal["step", "wait", "approval"]
HeldState = Literal["unknown", "diverged", "parked"]
MAX_NAME_CHARACTERS = 200
"""Of a step, a wait or an approval."""
LaneKey = tuple[str, str]
"""An organization, and a record's key."""


@dataclass(frozen=True)
class Entry:
    """A step or a wait of a run.

    Attributes:
        number: its place in the journal.
        name: as the handler calls it.
        kind: a step, a wait for an event, or for a decision.
        state: `started` (a step), `open` (a wait), or `ended`.
        result: JSON, once it has ended.
        awaited: the types of events that may end it.
        deadline: when it ends by itself.
    """

    number: int
    name: str
    kind: EntryKind
    state: Literal["started", "open", "ended"]
    result: bytes | None = None
    awaited: tuple[str, ...] = ()
    deadline: datetime | None = None


@dataclass(frozen=True)
class StoredRun:
    """A run as it is stored.

    Attributes:
        event_id: its event.
        version: of the agent whose code it is to go on with.
        state: see the migration that made the table.
        attempts: runs that failed so far.
        position: in the log, of the last event that it has seen.
        place: in the partition, of the last event that it has seen.
        record: its event, whole, if it is set aside.
        awaited: the types of events that may end its open wait.
    """

    event_id: UUID
    version: str
    state: str
    attempts: int
    position: int
    place: int
    record: bytes | None
    awaited: tuple[str, ...] = ()

    def may_take(self, event: Event[Any], record: Record) -> bool:
        """Say whether an event may end the open wait: of an awaited type, and later than all that the run has seen."""
        later = event.sequence > self.position and record.offset > self.place
        return self.state == "waiting" and event.type in self.awaited and later

    def goes_on_with(self, event: Event[Any], record: Record) -> bool:
        """Say whether it goes on before an event is handled: the event may end its wait, or something else has."""
        return self.record is not None and (self.state in {"ready", "running"} or self.may_take(event, record))

    @property
    def is_set_aside(self) -> bool:
        """Whether it is set aside, and goes on by itself when it is due."""
        return self.record is not None and self.state in {"ready", "running", "waiting", "parked"}


@dataclass(frozen=True)
class RunClaim:
    """A run that this member owns now.

    Attributes:
        epoch: of the claim.
        version: of the agent whose code it goes on with.
        entries: its journal.
    """

    epoch: int
    version: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Busy:
    """Another member works on a step of the run, as far as is known until then."""

    until: datetime


@dataclass(frozen=True)
class SetAside:
    """The run is set aside already: its event needs no handling."""


@dataclass(frozen=True)
class ClaimRequest:
    """What a claim is about.

    Attributes:
        record: the event's record.
        event: the event.
        version: of the code that is about to run.
        migration: how that code takes over from another version; None if it does not.
        resuming: whether the run is known to be set aside, and is to go on.
    """

    record: Record
    event: Event[Any]
    version: str
    migration: JournalMigration | None = None
    resuming: bool = False


@dataclass(frozen=True)
class DueRun:
    """A run that is to go on without an event: its wait is over, or its member is gone."""

    event_id: UUID
    state: str
    partition: Partition
    record: bytes


@dataclass(frozen=True)
class Asked:
    """What a run asks somebody to approve.

    Attributes:
        what: as JSON.
        person: who is asked, as the agent names them.
    """

    what: str
    person: str


@dataclass(frozen=True)
class StoredApproval:
    """An approval as it is stored.

    Attributes:
        what: what was asked for, as JSON.
        state: `open`, `approved`, `denied` or `expired`.
        by: who decided.
        at: when.
    """

    what: str
    state: str
    by: str | None
    at: datetime | None


class Journal(Protocol):
    """Stores runs: in Postgres, or in memory for an agent's own tests. Errors as those of `Inbox`."""

    async def in_use(self) -> bool:
        """Say whether the agent has any run."""
        ...

    async def of_key(self, key: LaneKey) -> tuple[StoredRun, ...]:
        """Return the runs that an event of a key may concern, in the order of the log."""
        ...

    async def claim(self, request: ClaimRequest) -> RunClaim | Busy | SetAside:
        """Take a run, or begin one."""
        ...

    async def start_step(self, event_id: UUID, epoch: int, number: int, name: str) -> bool:
        """Note that a step begins; False where the claim is lost."""
        ...

    async def undo_step(self, event_id: UUID, epoch: int, number: int) -> None:
        """Note that a step has not happened."""
        ...

    async def end_entry(
        self, event_id: UUID, epoch: int, entry: Entry, result: bytes, *, position: int = 0, place: int = -1
    ) -> bool:
        """Note how a step or wait ended, once; False where the claim is lost."""
        ...

    async def open_wait(self, event_id: UUID, epoch: int, entry: Entry, whole: bytes) -> bool:
        """Begin a wait and set the run aside with its event; False where the claim is lost."""
        ...

    async def set_aside(
        self, event_id: UUID, epoch: int, state: str, whole: bytes, *, reason: str = "", due: datetime | None = None
    ) -> bool:
        """Set a run aside with its event; False where the claim is lost."""
        ...

    async def ask_approval(
        self, event_id: UUID, epoch: int, entry: Entry, whole: bytes, approval_id: UUID, asked: Asked
    ) -> bool:
        """Ask for an approval, and set the run aside with its event; False where the claim is lost."""
        ...

    async def approval(self, approval_id: UUID) -> StoredApproval | None:
        """Return what became of an approval."""
        ...

    async def expire_approval(self, approval_id: UUID) -> str | None:
        """Say that its time is over; return its state then."""
        ...

    async def count_attempt(self, event_id: UUID, epoch: int) -> None:
        """Count a failed run."""
        ...

    async def release(self, event_id: UUID, epoch: int) -> None:
        """Give a claim back."""
        ...

    async def finish(self, event_id: UUID) -> None:
        """Drop a journal: its event is done."""
        ...

    async def give_up(self, event_id: UUID, reason: str) -> None:
        """Keep a journal for its dead letter."""
        ...


def idempotency_key(agent: str, event_id: UUID) -> str:
    """Return what other services know an event of an agent by, in every run."""
    return f"{agent}:{event_id}"


def lane_key(record: Record) -> LaneKey:
    """Return a record's organization and key as the journal has them."""
    return _text(record.header("ce_source")).rpartition("/")[2], _text(record.key)


def can_name(name: object) -> bool:
    """Whether the journal can keep a name: a text that is short, without NUL or halves of characters."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        return False
    return "\0" not in name and not any("\ud800" <= each <= "\udfff" for each in name)


def pack(record: Record, event: Event[Any]) -> bytes:
    """Write a record whole, with data that is elsewhere."""
    return orjson.dumps(
        {
            "topic": record.partition.topic,
            "partition": record.partition.number,
            "offset": record.offset,
            "published_at": record.published_at,
            "key": _base64(record.key),
            "value": _base64(record.value),
            "headers": [(name, _base64(value)) for name, value in record.headers],
            "elsewhere": _base64(encode_data(event.data)) if event.dataref is not None else None,
        }
    )


def unpack(packed: bytes) -> tuple[Record, Event[Any]]:
    """Read a record that was written whole.

    Raises:
        UndecodableRecord: this version does not know its type or form.
    """
    found = orjson.loads(packed)
    record = Record(
        Partition(found["topic"], found["partition"]),
        found["offset"],
        _bytes(found["key"]),
        _bytes(found["value"]),
        tuple((name, _bytes(value)) for name, value in found["headers"]),
        datetime.fromisoformat(found["published_at"]),
    )
    return record, read_event(record, elsewhere=_bytes(found["elsewhere"]))


def _text(value: bytes | None) -> str:
    # Postgres stores no NUL in a text.
    return (value or b"").decode(errors="replace").replace("\0", "�")


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else base64.b64decode(value)
