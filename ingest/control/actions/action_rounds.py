"""A chore: goes on with actions of which it is not known yet what became of them.

Several processes may run it: one claims an action, and what it leaves another one goes on with.
"""

from __future__ import annotations

import asyncio

from slotwire.ingest.control.actions.perform import Performer, resume_next
from slotwire.ingest.control.actions.records import ActionRecord
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.telemetry import get_logger

AT_ONCE = 8
"""Actions that a process goes on with at the same time: most wait for Calendly."""

_log = get_logger("actions")


async def run(performer: Performer, interval_seconds: float) -> None:
    """Go on with what is due now and then, until cancelled."""
    await repeat(lambda: _round(performer), stage="actions", seconds=interval_seconds)


async def run_once(performer: Performer) -> list[ActionRecord]:
    """Go on with everything that is due, one after the other; return it as it is then.

    Raises:
        DatabaseUnavailable: what is left is due later.
    """
    found: list[ActionRecord] = []
    while (ended := await _one(performer)) is not None:
        found += ended
    return found


async def _round(performer: Performer) -> None:
    if await _one(performer) is not None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(_some(performer))


async def _some(performer: Performer) -> None:
    """Go on with one after the other; a failure concerns one, which is due again when its claim ends."""
    try:
        await run_once(performer)
    except SlotwireError as problem:
        _log.warning("round_failed", error=problem.message)


async def _one(performer: Performer) -> list[ActionRecord] | None:
    """Go on with one that is due; None if none is, nothing where our own code fails on it."""
    try:
        record = await resume_next(performer)
    except SlotwireError:
        raise
    except Exception as error:  # noqa: BLE001 -- one that meets a defect must not end the process for all others
        _log.error("action_defect", **defect(error))
        return []
    return None if record is None else [record]
