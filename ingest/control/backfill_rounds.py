"""A chore: runs the backfills that are due.

It is apart from the subscription manager's rounds, because a backfill may take hours, and may have to wait for the
writer: neither may keep a subscription from being replaced. A backfill that does not get through remains due, and a
later round starts it again. One organization's backfill does not wait for another's.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum

from slotwire.ingest.control.backfill import PATIENCE_SECONDS
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.lifecycle import pause
from slotwire.ingest.foundation.subscriptions_settings import SubscriptionsSettings
from slotwire.ingest.foundation.telemetry import get_logger

AT_ONCE = 4
"""Backfills that run concurrently: each organization has a rate limit of its own at Calendly."""

_log = get_logger("backfills")


class BackfillOutcome(StrEnum):
    """What became of one backfill in one round."""

    DONE = "done"
    """Everything was fetched and accepted."""
    NOT_DUE = "not_due"
    """Another process has run it meanwhile."""
    UNWRITTEN = "unwritten"
    """Nothing writes what was accepted; it goes on in a later round."""
    PAUSED = "paused"
    """The organization has no connection that can act."""
    FAILED = "failed"
    """Calendly or Postgres failed, or our code has a defect; a later round tries again."""


async def run(organizations: Organizations, settings: SubscriptionsSettings) -> None:
    """Start the backfills that are due, now and then, until cancelled. One that still runs is not started again."""
    limit, running = asyncio.Semaphore(AT_ONCE), dict[str, asyncio.Task[BackfillOutcome]]()
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                due = await organizations.to_backfill()
            except SlotwireError as problem:
                _log.warning("round_failed", error=problem.message)
                due = ()
            running = {org: task for org, task in running.items() if not task.done()}
            for org in due:
                if org not in running:
                    running[org] = group.create_task(_backfill(organizations, org, limit))
            await pause(settings.interval_seconds)


async def run_once(organizations: Organizations, *, patience: float = PATIENCE_SECONDS) -> dict[str, BackfillOutcome]:
    """Run every backfill that is due, once; return the outcome by organization.

    Raises:
        DatabaseUnavailable: the organizations cannot be listed.
    """
    limit, due = asyncio.Semaphore(AT_ONCE), await organizations.to_backfill()
    async with asyncio.TaskGroup() as group:
        tasks = {org: group.create_task(_backfill(organizations, org, limit, patience)) for org in due}
    return {org: task.result() for org, task in tasks.items()}


async def _backfill(
    organizations: Organizations, org: str, limit: asyncio.Semaphore, patience: float = PATIENCE_SECONDS
) -> BackfillOutcome:
    """Run one organization's backfill. A failure affects only this one."""
    try:
        async with limit:
            best = await organizations.connections.for_organization(org)
            async with organizations.connections.acting(best, priority=Priority.SWEEP) as calendly:
                done = await organizations.run_backfill(org, calendly, patience=patience)
    except RequestRefused as problem:
        _log.warning("backfill_paused", organization=org, reason=problem.code)
        return BackfillOutcome.PAUSED
    except SlotwireError as problem:
        _log.warning("backfill_failed", organization=org, error=problem.message)
        return BackfillOutcome.FAILED
    except Exception as error:  # noqa: BLE001 -- the edge: one organization's must not end the process for all others
        _log.error("backfill_defect", organization=org, **defect(error))
        return BackfillOutcome.FAILED
    if done is None:
        return BackfillOutcome.NOT_DUE
    if not done.complete:
        _log.warning("backfill_unwritten", organization=org, accepted_at=done.accepted_at, unwritten=done.unwritten)
        return BackfillOutcome.UNWRITTEN
    for uri, why in done.unreadable.named.items():
        _log.warning("meeting_skipped", organization=org, uri=uri, reason=why)
    counts = {"skipped": done.skipped, "unreadable": done.unreadable.count}
    _log.info("backfill_done", organization=org, meetings=done.meetings, invitees=done.invitees, **counts)
    return BackfillOutcome.DONE
