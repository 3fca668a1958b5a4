"""Approvals: a run is set aside until somebody who may decides about what it asks for.

The agent's process can ask and read, and cannot decide: its database role may not, and it holds no key of the
management API.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import orjson

from slotwire.handlers.long_work.endings import LostRun, ParkedRun
from slotwire.handlers.long_work.journal import Asked, Entry, StoredApproval, pack
from slotwire.handlers.long_work.steps import MAX_WAIT, Run

MAX_ASKED_BYTES = 16_384
"""Of what is to be approved, as JSON."""
MAX_PERSON_CHARACTERS = 200


@dataclass(frozen=True)
class Decision:
    """What became of an approval.

    Attributes:
        approved: whether it was approved in time.
        by: who decided; None if the time was over before.
        at: when.
    """

    approved: bool
    by: str | None
    at: datetime | None

    @property
    def expired(self) -> bool:
        """Whether nobody decided in time."""
        return self.by is None


async def approval(run: Run, name: str, what: object, person: str, timeout: timedelta) -> Decision:  # noqa: ASYNC109 - of days, over many runs
    """Ask for an approval, or answer from the journal; see `Context.approval`."""
    asked = _asked(what, person, timeout)
    approval_id = uuid5(run.event.id, run.key_of(name))
    entry = await run.come_to("approval", name)
    if entry is None:
        entry = Entry(run.next_number(), name, "approval", "open", deadline=run.clock.now() + timeout)
        whole = pack(run.record, run.event)
        opened = run.journal.ask_approval(run.event.id, run.owned().epoch, entry, whole, approval_id, asked)
        run.end(ParkedRun() if await run.written(opened) else LostRun())
    found = await run.written(run.journal.approval(approval_id))
    if found is None or found.what != asked.what:
        await run.diverge(f"approval {name!r} is asked for something else than its journal has")
    if entry.state == "ended":
        return _decision(entry.result)
    return await _ended(run, entry, approval_id, found)


async def _ended(run: Run, entry: Entry, approval_id: UUID, found: StoredApproval) -> Decision:
    """End an approval that somebody decided about, or whose time is over; else set the run aside again."""
    over = run.place is not None and entry.deadline is not None and entry.deadline <= run.clock.now()
    if found.state == "open" and over:
        await run.written(run.journal.expire_approval(approval_id))
        now = await run.written(run.journal.approval(approval_id))
        found = found if now is None else now
    if found.state == "open":
        whole = pack(run.record, run.event)
        aside = run.journal.set_aside(run.event.id, run.owned().epoch, "waiting", whole, due=entry.deadline)
        run.end(ParkedRun() if await run.written(aside) else LostRun())
    result = orjson.dumps({"approved": found.state == "approved", "by": found.by, "at": found.at})
    await run.end_wait(entry, result, place=-1 if run.place is None else run.place)
    return _decision(result)


def _asked(what: object, person: str, timeout: timedelta) -> Asked:
    if not (type(timeout) is timedelta and timedelta(0) < timeout <= MAX_WAIT):
        raise ValueError(f"approval(timeout=...) takes a timedelta above 0, at most {MAX_WAIT.days} days")
    if not 0 < len(person) <= MAX_PERSON_CHARACTERS or "\0" in person:
        raise ValueError(f"approval(person=...) must be a text of 1 to {MAX_PERSON_CHARACTERS} characters")
    text = orjson.dumps(what, option=orjson.OPT_SORT_KEYS)
    if len(text) > MAX_ASKED_BYTES:
        raise ValueError(f"approval(what=...) has {len(text)} bytes of JSON, and {MAX_ASKED_BYTES} are shown")
    return Asked(text.decode(), person)


def _decision(result: bytes | None) -> Decision:
    found: dict[str, Any] = orjson.loads(result or b"{}")
    at = found["at"]
    return Decision(found["approved"], found["by"], None if at is None else datetime.fromisoformat(at))
