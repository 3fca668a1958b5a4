"""A chore: sweeps the organizations that are due, if the settings say so.

Several processes may run it: one claims a sweep, keeps its claim with each page, and what it has done another one goes
on from. Its calls are the least urgent.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from enum import StrEnum

from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.changes.sweep import Sweep
from slotwire.ingest.control.changes.sweep_records import (
    SweepClaim,
    SweepElsewhere,
    SweepTotals,
    claim,
    finish,
    forget,
    gather,
    release,
)
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.calendly_metrics import CHANGE_SWEEPS, CHANGES_TOLD
from slotwire.ingest.foundation.changes_settings import ChangesSettings
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.telemetry import get_logger

AT_ONCE = 4
"""Sweeps that run concurrently in a process: each organization has a rate limit of its own at Calendly."""
LOOK_SECONDS = 15.0
"""How often it is looked for sweeps that are due."""
FIRST_AGAIN, LAST_AGAIN = timedelta(minutes=1), timedelta(hours=2)
"""After how long a sweep that failed goes on; doubled with each failure that follows, up to the second."""

_log = get_logger("changes")


class SweepOutcome(StrEnum):
    """What became of a sweep; also the label of `slotwire_change_sweeps`."""

    ENDED = "ended"
    LOST = "lost"
    """Another process has it by now."""
    PAUSED = "paused"
    """The organization has no connection that can act."""
    FAILED = "failed"
    """Calendly or Postgres failed, or our code has a defect; it goes on later."""


async def run(organizations: Organizations, settings: ChangesSettings) -> None:
    """Sweep what is due, until cancelled; without the setting, forget what is known of meetings."""
    if settings.interval_minutes is None:
        await repeat(lambda: forget(organizations.pool), stage="changes", seconds=3600.0)
    await repeat(lambda: run_once(organizations, settings), stage="changes", seconds=LOOK_SECONDS)


async def run_once(organizations: Organizations, settings: ChangesSettings) -> dict[str, SweepOutcome]:
    """Sweep the organizations that are due; return what became of each.

    Raises:
        DatabaseUnavailable: the sweeps cannot be claimed.
    """
    found: dict[str, SweepOutcome] = {}
    latest = max(timedelta(minutes=settings.interval_minutes or 0), LAST_AGAIN)
    await gather(organizations.pool, organizations.clock.now(), latest)

    async def some() -> None:
        while True:
            held = await claim(organizations.pool, organizations.clock.now(), timedelta(days=settings.days_ahead))
            if held is None:
                return
            found[held.org] = await sweep(organizations, held, settings)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return found


async def sweep(organizations: Organizations, held: SweepClaim, settings: ChangesSettings) -> SweepOutcome:
    """Go on with one claimed sweep. A failure affects only this one."""
    try:
        outcome = await _swept(organizations, held, settings)
    except asyncio.CancelledError:
        # So that another process need not wait until the claim ends by itself.
        await asyncio.shield(_left(organizations, held, timedelta(), None))
        raise
    CHANGE_SWEEPS.labels(outcome).inc()
    return outcome


async def _swept(organizations: Organizations, held: SweepClaim, settings: ChangesSettings) -> SweepOutcome:
    try:
        totals = await _compare(organizations, held, settings)
    except SweepElsewhere:
        _log.warning("claim_lost", organization=held.org)
        return SweepOutcome.LOST
    except RequestRefused as problem:
        await _left(organizations, held, _backoff(held.attempts), problem.code)
        return SweepOutcome.PAUSED
    except SlotwireError as problem:
        _log.warning("sweep_failed", organization=held.org, error=problem.message)
        await _left(organizations, held, _backoff(held.attempts), type(problem).__name__)
        return SweepOutcome.FAILED
    except Exception as error:  # noqa: BLE001 -- the edge: one organization's must not end the process for all others
        _log.error("sweep_defect", organization=held.org, **defect(error))
        await _left(organizations, held, _backoff(held.attempts), type(error).__name__)
        return SweepOutcome.FAILED
    told = {"meetings": totals.meetings, "calls": totals.calls, "changes": totals.changes}
    _log.info("changes_swept", organization=held.org, **told)
    return SweepOutcome.ENDED


async def _compare(organizations: Organizations, held: SweepClaim, settings: ChangesSettings) -> SweepTotals:
    best = await organizations.connections.for_organization(held.org)
    async with organizations.connections.acting(best, priority=Priority.SWEEP) as calendly:
        work = Sweep(organizations.pool, organizations.clock, held, calendly, best)
        try:
            await work.run()
        finally:
            for name, count in work.changed.items():
                CHANGES_TOLD.labels(name).inc(count)
    for uri, why in work.skipped.named.items():
        _log.warning("meeting_skipped", organization=held.org, uri=uri, reason=why)
    now = organizations.clock.now()
    again = now + timedelta(minutes=settings.interval_minutes or 0)
    return await finish(organizations.pool, held, now, again)


async def _left(organizations: Organizations, held: SweepClaim, later: timedelta, problem: str | None) -> None:
    """Give a claim back; if that cannot be written either, it ends by itself."""
    try:
        await release(organizations.pool, held, due_at=organizations.clock.now() + later, problem=problem)
    except SlotwireError as error:
        _log.warning("claim_not_left", organization=held.org, error=error.message)


def _backoff(attempts: int) -> timedelta:
    return min(FIRST_AGAIN * (1 << min(attempts, 16)), LAST_AGAIN)
