"""Keeping: the subscription manager's rounds.

Every organization is looked at again and again, so that what is wanted stays so, what was begun and cut off is
finished, and what is still to be fetched is fetched.

A round asks Calendly once or twice an organization. Several processes may go their rounds at once: what one does
the other finds done. One organization's failure is its own; one whose connection cannot act is passed over.
"""

from __future__ import annotations

import asyncio
import random
from typing import Literal

from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.settings import SubscriptionsSettings
from slotwire.ingest.foundation.telemetry import SUBSCRIPTION_ROUNDS, SUBSCRIPTIONS_UNSERVED, get_logger
from slotwire.schemas.ids import OrganizationUri

AT_ONCE = 8
"""Organizations looked at side by side: each has a rate limit of its own at Calendly."""

_CANNOT_ACT = frozenset({"connection_missing", "connection_unable"})
Result = Literal["kept", "changed", "paused", "failed"]
_log = get_logger("keeping")


async def run(organizations: Organizations, settings: SubscriptionsSettings) -> None:
    """Go rounds for ever. The pauses carry jitter, so that several processes do not go in step."""
    while True:
        try:
            await run_once(organizations)
        except SlotwireError as problem:
            _log.warning("round_failed", error=problem.message)
        await asyncio.sleep(settings.interval_seconds * random.uniform(0.9, 1.1))  # noqa: S311 -- no secret


async def run_once(organizations: Organizations) -> dict[str, Result]:
    """Look at every organization once; returns what became of each.

    Raises:
        DatabaseUnavailable: the organizations cannot be listed.
    """
    gate, results = asyncio.Semaphore(AT_ONCE), dict[str, Result]()
    unserved: dict[str, int] = {}

    async def look(org: str, uri: OrganizationUri) -> None:
        async with gate:
            results[org], unserved[org] = await _look(organizations, org, uri)
            SUBSCRIPTION_ROUNDS.labels(results[org]).inc()

    work = await organizations.with_work()
    async with asyncio.TaskGroup() as group:
        for org, uri in work:
            group.create_task(look(org, uri))
    SUBSCRIPTIONS_UNSERVED.set(sum(unserved.values()))
    return results


async def _look(organizations: Organizations, org: str, uri: OrganizationUri) -> tuple[Result, int]:
    wanted = 1  # as long as nobody knows: it has work
    try:
        wanted = len(await organizations.subscriptions.wanted(org))
        best = await organizations.connections.for_organization(org)
        async with organizations.connections.acting(best) as calendly:
            applied = await organizations.subscriptions.apply(calendly, uri, patient=True)
            await organizations.fill(org, calendly)
    except SlotwireError as problem:
        if isinstance(problem, RequestRefused) and problem.code in _CANNOT_ACT:
            _log.warning("organization_paused", organization=org, reason=problem.code)
            return "paused", wanted
        _log.warning("organization_failed", organization=org, error=problem.message)
        return "failed", wanted
    changed = bool(applied.made or applied.dropped or applied.orphans)
    if changed:
        made, dropped = len(applied.made), len(applied.dropped)
        _log.info("subscriptions_changed", organization=org, made=made, dropped=dropped, orphans=applied.orphans)
    return "changed" if changed else "kept", wanted - len(applied.serving)
