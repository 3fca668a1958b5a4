"""A chore: fills holes by itself.

It is apart from the subscription manager's rounds, because a fetch may take hours. Several processes may run it: one
claims a hole, keeps its claim while it fetches, and what it has kept another one goes on from. A fetch has a turn of
bounded length, so that organizations with much to fetch do not keep out those with little.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from enum import StrEnum

from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.fetch_plan import plan_fetch
from slotwire.ingest.control.hole_fetch import FetchOutcome, HoleFetch, Turn
from slotwire.ingest.control.hole_records import ClaimLost, HoleClaim, backoff, claim, note_unwatched, release
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.lifecycle import pause
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.foundation.telemetry import HOLE_EVENTS_RECOVERED, HOLE_FETCHES, get_logger

AT_ONCE = 12
"""Fetches that run concurrently in a process: each organization has a rate limit of its own at Calendly, and waits for
it nearly all the time."""
WHOLE = Turn()
"""A turn of the usual length, of which nobody is told."""
UNWRITTEN_AGAIN = timedelta(seconds=30)
"""When a fetch goes on for which nothing made room."""

_log = get_logger("holes")


class FillOutcome(StrEnum):
    """What became of one turn of one fetch; also the label of `slotwire_hole_fetches`."""

    ENDED = "ended"
    """All was fetched, and the holes are closed that it covers."""
    TURN_OVER = "turn_over"
    """It goes on when others have had their turn."""
    UNWRITTEN = "unwritten"
    """Nothing writes what was accepted; it goes on later."""
    LOST = "lost"
    """Another process fetches by now."""
    PAUSED = "paused"
    """The organization has no connection that can act."""
    FAILED = "failed"
    """Calendly or Postgres failed, or our code has a defect; it goes on later."""


async def run(organizations: Organizations, settings: ReconcileSettings) -> None:
    """Fill holes as they become due, until cancelled."""
    running, looked_at, loop = set[asyncio.Task[FillOutcome]](), 0.0, asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                if not looked_at or loop.time() - looked_at >= settings.interval_seconds:
                    await note_unwatched(organizations.pool, organizations.clock.now())  # looks at all organizations
                    looked_at = loop.time()
                while len(running) < AT_ONCE:
                    held = await claim(organizations.pool, organizations.clock.now())
                    if held is None:
                        break
                    running.add(group.create_task(fill(organizations, held, settings)))
            except SlotwireError as problem:
                _log.warning("round_failed", error=problem.message)
            if running:
                ended, running = await asyncio.wait(
                    running, timeout=settings.interval_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if ended:
                    continue
            else:
                await pause(settings.interval_seconds)


async def run_once(
    organizations: Organizations, settings: ReconcileSettings, turn: Turn = WHOLE
) -> dict[str, list[FillOutcome]]:
    """Fill the holes that are due, one after the other, until none is; return each turn's outcome by organization.

    Raises:
        DatabaseUnavailable: the holes cannot be read.
    """
    outcomes: dict[str, list[FillOutcome]] = {}
    await note_unwatched(organizations.pool, organizations.clock.now())
    while (held := await claim(organizations.pool, organizations.clock.now())) is not None:
        outcomes.setdefault(held.org, []).append(await fill(organizations, held, settings, turn))
    return outcomes


async def fill(
    organizations: Organizations, held: HoleClaim, settings: ReconcileSettings, turn: Turn = WHOLE
) -> FillOutcome:
    """Go on with one claim's fetch for one turn. A failure affects only this one."""
    try:
        outcome = await _filled(organizations, held, settings, turn)
    except asyncio.CancelledError:
        # So that another process need not wait until the claim ends by itself.
        await asyncio.shield(_left(organizations, held))
        raise
    HOLE_FETCHES.labels(outcome).inc()
    return outcome


async def _filled(
    organizations: Organizations, held: HoleClaim, settings: ReconcileSettings, turn: Turn
) -> FillOutcome:
    pool, clock = organizations.pool, organizations.clock
    try:
        outcome, fetch = await _fetch(organizations, held, settings, turn)
        if outcome is not FetchOutcome.ENDED:
            wait = UNWRITTEN_AGAIN if outcome is FetchOutcome.UNWRITTEN else timedelta()
            await release(pool, held, due_at=clock.now() + wait)
            _log.info("hole_goes_on", organization=held.org, outcome=outcome.value, meetings=fetch.progress.meetings)
            return FillOutcome(outcome.value)
    except ClaimLost:
        _log.warning("claim_lost", organization=held.org)
        return FillOutcome.LOST
    except RequestRefused as problem:
        await _failed(organizations, held, problem.code)
        return FillOutcome.PAUSED
    except SlotwireError as problem:
        _log.warning("fetch_failed", organization=held.org, error=problem.message)
        await _failed(organizations, held, type(problem).__name__)
        return FillOutcome.FAILED
    except Exception as error:  # noqa: BLE001 -- the edge: one organization's must not end the process for all others
        _log.error("fetch_defect", organization=held.org, **defect(error))
        await _failed(organizations, held, type(error).__name__)
        return FillOutcome.FAILED
    return FillOutcome.ENDED


async def _fetch(
    organizations: Organizations, held: HoleClaim, settings: ReconcileSettings, turn: Turn
) -> tuple[FetchOutcome, HoleFetch]:
    wanted = await organizations.subscriptions.wanted(held.org)
    best = await organizations.connections.for_organization(held.org)
    async with organizations.connections.acting(best, priority=Priority.SWEEP) as calendly:
        fetch = HoleFetch(
            *(organizations.pool, organizations.clock, held, calendly),
            look_back=timedelta(days=settings.look_back_days),
            plan=plan_fetch(wanted, best.user_uri),
            turn=turn,
        )
        outcome = await fetch.run()
    if outcome is FetchOutcome.ENDED and fetch.reported is not None:
        told = fetch.reported
        for kind, events in told.recovered.items():
            HOLE_EVENTS_RECOVERED.labels(kind).inc(events)
        counts = {"recovered": sum(told.recovered.values()), "skipped": told.skipped, "calls": told.calls}
        _log.info("hole_filled", organization=held.org, **counts, calls_saved=told.calls_saved)
    return outcome, fetch


async def _failed(organizations: Organizations, held: HoleClaim, problem: str) -> None:
    """Give a claim back after a failure; if that cannot be written either, it ends by itself."""
    due_at = organizations.clock.now() + backoff(held.attempts)
    try:
        await release(organizations.pool, held, due_at=due_at, problem=problem)
    except SlotwireError as error:
        _log.warning("claim_not_left", organization=held.org, error=error.message)


async def _left(organizations: Organizations, held: HoleClaim) -> None:
    try:
        await release(organizations.pool, held, due_at=organizations.clock.now())
    except SlotwireError as error:
        _log.info("claim_not_left", organization=held.org, error=error.message)
