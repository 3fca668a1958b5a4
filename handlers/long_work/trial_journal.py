"""The journal of a trial, in memory: what `PostgresJournal` does, for one process that never dies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from slotwire.handlers.long_work.journal import (
    Asked,
    ClaimRequest,
    Entry,
    LaneKey,
    RunClaim,
    SetAside,
    StoredApproval,
    StoredRun,
    lane_key,
)
from slotwire.ingest.foundation.clock import Clock


@dataclass
class TrialRun:
    """A run in memory.

    Attributes:
        stored: as the runtime sees it.
        key: the organization and key of its event.
        epoch: of the last claim.
        entries: its journal.
        due_at: when it goes on by itself.
        reason: why it is held.
    """

    stored: StoredRun
    key: LaneKey
    epoch: int = 1
    entries: list[Entry] = field(default_factory=list)
    due_at: datetime | None = None
    reason: str = ""


class MemoryJournal:
    """The runs of a trial.

    Attributes:
        runs: by their events.
        approvals: by their ids, with the event and the name of each.
    """

    def __init__(self, clock: Clock) -> None:
        self.runs: dict[UUID, TrialRun] = {}
        self.approvals: dict[UUID, tuple[UUID, str, StoredApproval]] = {}
        self._clock = clock

    async def in_use(self) -> bool:
        """Say whether there is any run."""
        return bool(self.runs)

    async def of_key(self, key: LaneKey) -> tuple[StoredRun, ...]:
        """Return the runs that an event of a key may concern, in the order of the log."""
        found = [run.stored for run in self.runs.values() if run.key == key and run.stored.state != "given_up"]
        return tuple(sorted(found, key=lambda run: run.position))

    def due(self) -> tuple[UUID, ...]:
        """Return the events whose runs are due."""
        now = self._clock.now()
        waiting = [(run.due_at, event_id) for event_id, run in self.runs.items() if run.stored.is_set_aside]
        return tuple(event_id for due, event_id in sorted(waiting, key=str) if due is not None and due <= now)

    async def claim(self, request: ClaimRequest) -> RunClaim | SetAside:
        """Take a run, or begin one."""
        event, record = request.event, request.record
        run = self.runs.get(event.id)
        if run is None:
            stored = StoredRun(event.id, request.version, "running", 0, event.sequence, record.offset, None)
            self.runs[event.id] = TrialRun(stored, lane_key(record))
            return RunClaim(1, request.version)
        held = run.stored.state in {"unknown", "diverged"}
        if held or (run.stored.record is not None and not request.resuming):
            return SetAside()
        run.epoch += 1
        if request.migration is not None and run.stored.version != request.version:
            named = [(each, request.migration.of(each.name)) for each in run.entries]
            run.entries = [replace(each, name=name) for each, name in named if name is not None]
            run.stored = replace(run.stored, version=request.version)
        attempts = 0 if run.stored.state == "given_up" else run.stored.attempts
        run.stored = replace(run.stored, state="running", attempts=attempts, awaited=())
        return RunClaim(run.epoch, run.stored.version, tuple(run.entries))

    async def start_step(self, event_id: UUID, epoch: int, number: int, name: str) -> bool:
        """Note that a step begins; False where the claim is lost."""
        return self._put(event_id, epoch, Entry(number, name, "step", "started"))

    async def undo_step(self, event_id: UUID, epoch: int, number: int) -> None:
        """Note that a step has not happened."""
        if (run := self._owned(event_id, epoch)) is not None:
            run.entries = [each for each in run.entries if each.number != number]

    async def end_entry(
        self, event_id: UUID, epoch: int, entry: Entry, result: bytes, *, position: int = 0, place: int = -1
    ) -> bool:
        """Note how a step or wait ended, once; False where the claim is lost."""
        if (run := self._owned(event_id, epoch)) is None:
            return False
        stored = run.stored
        run.stored = replace(stored, position=max(stored.position, position), place=max(stored.place, place))
        return self._put(event_id, epoch, replace(entry, state="ended", result=result))

    async def open_wait(self, event_id: UUID, epoch: int, entry: Entry, whole: bytes) -> bool:
        """Begin a wait and set the run aside with its event; False where the claim is lost."""
        self._put(event_id, epoch, entry)
        return await self.set_aside(event_id, epoch, "waiting", whole, due=entry.deadline)

    async def set_aside(
        self, event_id: UUID, epoch: int, state: str, whole: bytes, *, reason: str = "", due: datetime | None = None
    ) -> bool:
        """Set a run aside with its event; False where the claim is lost."""
        if (run := self._owned(event_id, epoch)) is None:
            return False
        awaited = next((each.awaited for each in run.entries if each.state == "open"), ())
        run.stored = replace(run.stored, state=state, record=run.stored.record or whole, awaited=awaited)
        run.due_at, run.reason = due, reason
        return True

    async def ask_approval(
        self, event_id: UUID, epoch: int, entry: Entry, whole: bytes, approval_id: UUID, asked: Asked
    ) -> bool:
        """Ask for an approval, and set the run aside with its event; False where the claim is lost."""
        self.approvals[approval_id] = (event_id, entry.name, StoredApproval(asked.what, "open", None, None))
        return await self.open_wait(event_id, epoch, entry, whole)

    async def approval(self, approval_id: UUID) -> StoredApproval | None:
        """Return what became of an approval."""
        found = self.approvals.get(approval_id)
        return None if found is None else found[2]

    async def expire_approval(self, approval_id: UUID) -> str | None:
        """Say that its time is over; return its state then."""
        event_id, name, stored = self.approvals[approval_id]
        self.approvals[approval_id] = (event_id, name, replace(stored, state="expired"))
        return "expired"

    def decide(self, event_id: UUID, name: str, *, approved: bool, by: str) -> None:
        """Decide about an approval."""
        for approval_id, (asking, asked, stored) in self.approvals.items():
            if (asking, asked, stored.state) == (event_id, name, "open"):
                state = "approved" if approved else "denied"
                self.approvals[approval_id] = (
                    event_id,
                    name,
                    replace(stored, state=state, by=by, at=self._clock.now()),
                )
                run = self.runs[event_id]
                run.stored, run.due_at = replace(run.stored, state="ready"), self._clock.now()
                return
        raise LookupError(f"no approval {name!r} of this event is open")

    async def count_attempt(self, event_id: UUID, epoch: int) -> None:
        """Count a failed run."""
        if (run := self._owned(event_id, epoch)) is not None:
            run.stored = replace(run.stored, attempts=run.stored.attempts + 1)

    async def release(self, event_id: UUID, epoch: int) -> None:
        """Give a claim back: nobody else would take it."""

    async def finish(self, event_id: UUID) -> None:
        """Drop a journal: its event is done."""
        self.runs.pop(event_id, None)

    async def give_up(self, event_id: UUID, reason: str) -> None:
        """Keep a journal for its dead letter."""
        if (run := self.runs.get(event_id)) is not None:
            run.stored, run.reason = replace(run.stored, state="given_up", record=None), reason

    def _owned(self, event_id: UUID, epoch: int) -> TrialRun | None:
        run = self.runs.get(event_id)
        return run if run is not None and run.epoch == epoch and run.stored.state == "running" else None

    def _put(self, event_id: UUID, epoch: int, entry: Entry) -> bool:
        if (run := self._owned(event_id, epoch)) is None:
            return False
        run.entries = sorted(
            (*(each for each in run.entries if each.number != entry.number), entry), key=lambda each: each.number
        )
        return True
