"""One run of a handler with a journal: it starts from the top, and steps and waits that have ended answer from there.

A handler's code between its steps runs again whenever the run goes on, so it must come to the same steps and waits in
the same order. Where it does not, the run has diverged: it is held for a person, and never run again by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from inspect import isawaitable
from typing import Any, Literal, NoReturn, TypeVar

import orjson

from slotwire.handlers.long_work.endings import (
    BusyRun,
    Ending,
    HeldRun,
    InterruptedRun,
    LostRun,
    ParkedRun,
    StepOutcomeUnknown,
    StepResultTooLarge,
    Suspended,
    TroubledRun,
)
from slotwire.handlers.long_work.functions import taken, wrong_function
from slotwire.handlers.long_work.journal import (
    MAX_NAME_CHARACTERS,
    Busy,
    ClaimRequest,
    Entry,
    EntryKind,
    HeldState,
    Journal,
    RunClaim,
    SetAside,
    StoredRun,
    can_name,
    idempotency_key,
    pack,
    unpack,
)
from slotwire.handlers.long_work.versions import JournalMigration
from slotwire.handlers.records import Record
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import SlotwireError
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData

MAX_RESULT_BYTES = 65_536
"""Of what a step returns, as JSON."""
MAX_ENTRIES = 1_000
"""Steps and waits of one run."""
MAX_WAIT = timedelta(days=366)
RUN_IS_OVER = "the run of the handler is over: what it started goes on without the context. Await it in the handler"
RELEASE_SECONDS = 1.0
"""How long it may take to give a claim back when a run is interrupted."""

T = TypeVar("T")
D = TypeVar("D", bound=EventData)


@dataclass(frozen=True)
class Candidate:
    """A later event of the chain that may end the run's open wait."""

    record: Record
    event: Event[Any]


@dataclass
class Run:
    """What one run of a handler does through its context.

    Attributes:
        journal: where it is written.
        record: the event's record.
        event: the event.
        agent: the agent's name.
        version: of the agent whose code runs.
        migration: how that code takes over from the version that began the run; None if it does not.
        clock: for deadlines.
        stopping: set when the process stops: the run then ends between two steps.
        known: the run as it was stored before; None for a first run.
        candidate: an event that may end its wait.
        place: the offset up to which the partition was read when the run was due; None if it is not due.
        ending: how the run ended before its handler did.
        over: whether the handler has ended: what it has left behind comes to no step any more.
        refused: what the handler asked for and did not get; such a run is not done, whatever it returns.
    """

    journal: Journal
    record: Record
    event: Event[Any]
    agent: str
    version: str
    clock: Clock
    stopping: asyncio.Event
    migration: JournalMigration | None = None
    known: StoredRun | None = None
    candidate: Candidate | None = None
    place: int | None = None
    ending: Ending | None = field(default=None, init=False)
    refused: str | None = field(default=None, init=False)
    over: bool = field(default=False, init=False)
    _claim: RunClaim | None = field(default=None, init=False)
    _names: frozenset[str] = field(default=frozenset(), init=False)
    _cursor: int = field(default=0, init=False)
    _under_way: str | None = field(default=None, init=False)
    _failed: str | None = field(default=None, init=False)
    _spent: bool = field(default=False, init=False)

    @property
    def claimed(self) -> bool:
        """Whether the run has a journal, and this process owns it."""
        return self._claim is not None

    @property
    def untouched(self) -> bool:
        """Whether nothing of it is stored, and its handler has asked for nothing."""
        return self._claim is None and self.known is None and self.ending is None and self.refused is None

    @property
    def has_journal(self) -> bool:
        """Whether anything of the run is stored."""
        return self._claim is not None or self.known is not None

    def key_of(self, name: str) -> str:
        """Return the idempotency key of a step: the same in every run."""
        return f"{idempotency_key(self.agent, self.event.id)}:{name}"

    async def step(
        self, name: str, fn: Callable[[str], Awaitable[T]], *, on_unknown: Literal["raise", "retry"] = "raise"
    ) -> T:
        """Run a step, or answer from the journal; see `Context.step`."""
        if on_unknown not in {"raise", "retry"}:
            raise ValueError('on_unknown must be "raise" or "retry"')
        if wrong := wrong_function(name, fn):
            self._refuse(wrong)
        entry = await self.come_to("step", name)
        if entry is not None and entry.state == "ended":
            answer: T = orjson.loads(entry.result or b"null")
            return answer
        if self.stopping.is_set():
            self.end(InterruptedRun())
        if entry is not None and on_unknown == "raise":
            raise StepOutcomeUnknown(name)
        started = entry or Entry(self.next_number(), name, "step", "started")
        epoch, number = self.owned().epoch, started.number
        if not await self.written(self.journal.start_step(self.event.id, epoch, number, name)):
            self.end(LostRun())
        self._note(started)
        self._under_way = name
        try:
            called: Any = fn(self.key_of(name))
            value = await called if isawaitable(called) else called  # what has returned has happened
        except StepOutcomeUnknown as unknown:
            unknown.again = on_unknown == "retry"
            raise
        except Exception:
            self._failed = name
            await self.written(self.journal.undo_step(self.event.id, epoch, number))
            raise
        finally:
            self._under_way = None
        result = _dumped(name, value)
        if not await self.written(self.journal.end_entry(self.event.id, epoch, started, result)):
            self.end(LostRun())
        kept: T = orjson.loads(result)
        return kept

    async def wait_for(
        self,
        classes: tuple[type[D], ...],
        *,
        name: str,
        where: Callable[[Event[D]], bool] | None,
        timeout: timedelta,  # noqa: ASYNC109 - of days, over many runs
    ) -> Event[D] | None:
        """Wait for an event, or answer from the journal; see `Context.wait_for`."""
        self._check_wait(classes, timeout)
        entry = await self.come_to("wait", name)
        if entry is not None and entry.state == "ended":
            return None if entry.result == b"null" else unpack(entry.result or b"")[1]
        if entry is None:
            types, deadline = tuple(cls.type for cls in classes), self.clock.now() + timeout
            await self._open(Entry(self.next_number(), name, "wait", "open", None, types, deadline))
        return await self._answer(entry, where)

    async def _open(self, entry: Entry) -> NoReturn:
        whole = pack(self.record, self.event)
        opened = self.journal.open_wait(self.event.id, self.owned().epoch, entry, whole)
        self.end(ParkedRun() if await self.written(opened) else LostRun())

    async def _answer(self, entry: Entry, where: Callable[[Event[Any]], bool] | None) -> Event[Any] | None:
        """End an open wait by the event that came, or after its time; else set the run aside again."""
        candidate = None if self._spent else self.candidate
        self._spent = True
        if candidate is not None and candidate.event.type in entry.awaited and taken(where, candidate.event):
            position, place = candidate.event.sequence, candidate.record.offset
            packed = pack(candidate.record, candidate.event)
            await self.end_wait(entry, packed, position=position, place=place)
            return candidate.event
        if self.place is not None and entry.deadline is not None and entry.deadline <= self.clock.now():
            await self.end_wait(entry, b"null", place=self.place)
            return None
        whole = pack(self.record, self.event)
        aside = self.journal.set_aside(self.event.id, self.owned().epoch, "waiting", whole, due=entry.deadline)
        return self.end(ParkedRun() if await self.written(aside) else LostRun())

    async def end_wait(self, entry: Entry, result: bytes, *, position: int = 0, place: int) -> None:
        """Note what ended a wait, once."""
        ended = self.journal.end_entry(self.event.id, self.owned().epoch, entry, result, position=position, place=place)
        if not await self.written(ended):
            self.end(LostRun())

    def _check_wait(self, classes: tuple[type[D], ...], timeout: timedelta) -> None:
        if not (type(timeout) is timedelta and timedelta(0) < timeout <= MAX_WAIT):
            raise ValueError(f"wait_for(timeout=...) takes a timedelta above 0, at most {MAX_WAIT.days} days")
        for cls in classes:
            if not hasattr(cls, "type"):
                raise TypeError(f"wait_for() takes event classes of slotwire.schemas.events, not {cls!r}")
            if cls.topic is not type(self.event.data).topic:
                raise ValueError(
                    f"{cls.__name__} is in the topic {cls.topic.name}, whose keys are others than those of"
                    f" {type(self.event.data).topic.name}: no event of it could ever answer"
                )

    async def complete(self) -> Ending | None:
        """Check that the handler has come to everything in its journal; None where it has."""
        if self.ending is None and self._claim is None and self.known is not None:
            with suppress(Suspended):
                await self._begin()
        if self.ending is None and self._claim is not None and self._cursor < len(self._claim.entries):
            missing = self._claim.entries[self._cursor].name
            with suppress(Suspended):
                await self.diverge(f"the handler ended without {missing!r}, which its journal has")
        return self.ending

    async def hold(self, state: HeldState, reason: str) -> Ending:
        """Set the run aside until a person, or another version, takes it."""
        claim, whole = self.owned(), pack(self.record, self.event)
        due = self.clock.now() if state == "parked" else None
        aside = self.journal.set_aside(self.event.id, claim.epoch, state, whole, reason=reason, due=due)
        self.ending = HeldRun(state, reason) if await self.written(aside) else LostRun()
        return self.ending

    async def finish(self) -> None:
        """Drop the journal, if there is one: the event is done."""
        if self.has_journal:
            await self.journal.finish(self.event.id)

    def again(self, failures: int) -> Run:
        """Return the run that follows this one, which has failed."""
        known = self.known
        if self._claim is not None:
            before = known or StoredRun(self.event.id, self.version, "running", 0, 0, -1, None)
            known = replace(before, state="running", attempts=failures)
        return Run(
            self.journal,
            self.record,
            self.event,
            self.agent,
            self.version,
            self.clock,
            self.stopping,
            self.migration,
            known,
            self.candidate,
            self.place,
        )

    async def count_attempt(self) -> None:
        """Count a failed run, if it has a journal."""
        if self._claim is not None:
            await self.journal.count_attempt(self.event.id, self._claim.epoch)

    async def release(self) -> None:
        """Give the claim back, in bounded time; where that fails, it ends by itself."""
        if self._claim is None:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self.journal.release(self.event.id, self._claim.epoch)
        except (SlotwireError, TimeoutError):
            pass

    async def come_to(self, kind: EntryKind, name: str) -> Entry | None:
        """Come to a step or wait; return its entry, or None where the journal ends before it."""
        if self.ending is not None:
            raise Suspended
        self._check_turn(kind, name)
        if self._claim is None:
            await self._begin()
        claim = self.owned()
        if name in self._names:
            await self.diverge(f"the name {name!r} is used twice")
        self._names |= {name}
        if self._cursor == len(claim.entries):
            if self._cursor >= MAX_ENTRIES:
                self._refuse(f"a run has at most {MAX_ENTRIES} steps and waits")
            return None
        entry = claim.entries[self._cursor]
        if (entry.kind, entry.name) != (kind, name):
            await self.diverge(f"the handler came to {kind} {name!r} where its journal has {entry.kind} {entry.name!r}")
        self._cursor += 1
        return entry

    def _check_turn(self, kind: EntryKind, name: str) -> None:
        """Refuse what may not begin now."""
        if self.over:
            raise RuntimeError(RUN_IS_OVER)
        if not can_name(name):
            raise ValueError(f"the name of a {kind} must be a text of 1 to {MAX_NAME_CHARACTERS} characters")
        if self._under_way is not None:
            self._refuse(f"{name!r} began during step {self._under_way!r}: one step or wait at a time")
        if self._failed is not None:
            self._refuse(
                f"step {self._failed!r} had failed, and the handler went on to {name!r}: catch errors inside of the"
                " step's function"
            )

    async def _begin(self) -> None:
        request = ClaimRequest(self.record, self.event, self.version, self.migration, self._resuming)
        match await self.written(self.journal.claim(request)):
            case RunClaim() as claim:
                self._claim = claim
                if claim.version != self.version:
                    await self.hold("parked", f"it began on version {claim.version!r} of the agent")
                    raise Suspended
            case Busy(until):
                self.end(BusyRun(until))
            case SetAside():
                self.end(ParkedRun())

    @property
    def _resuming(self) -> bool:
        return self.known is not None and self.known.record is not None

    def owned(self) -> RunClaim:
        """Return the claim; every caller comes after `come_to`."""
        if self._claim is None:  # pragma: no cover - every caller comes after `_begin`
            raise AssertionError
        return self._claim

    def next_number(self) -> int:
        """Return the number of the entry that comes next."""
        entries = self.owned().entries
        return entries[-1].number + 1 if entries else 0

    def _note(self, entry: Entry) -> None:
        """Note an entry that was not in the journal when the run began."""
        claim = self.owned()
        if all(each.number != entry.number for each in claim.entries):
            self._claim = replace(claim, entries=(*claim.entries, entry))
            self._cursor += 1

    async def diverge(self, reason: str) -> NoReturn:
        """Hold the run, and end here."""
        await self.hold("diverged", reason)
        raise Suspended

    def _refuse(self, what: str) -> NoReturn:
        self.refused = what
        raise RuntimeError(what)

    def end(self, ending: Ending) -> NoReturn:
        """End here."""
        self.ending = ending
        raise Suspended

    async def written(self, call: Awaitable[T]) -> T:
        """Call the journal; remember a failure, in case the handler catches it and goes on."""
        try:
            return await call
        except SlotwireError as problem:
            self.ending = TroubledRun(problem)
            raise


def _dumped(name: str, value: object) -> bytes:
    try:
        result = orjson.dumps(value)
        if b"null" in result:  # orjson writes NaN and the infinities so
            json.dumps(value, allow_nan=False, default=str)
    except (TypeError, ValueError) as error:
        raise StepResultTooLarge(name, f"returned what JSON cannot hold: {error}") from None
    if len(result) > MAX_RESULT_BYTES:
        raise StepResultTooLarge(name, f"returned {len(result)} bytes of JSON, and {MAX_RESULT_BYTES} are kept")
    return result
