"""The subscription manager's rounds over all organizations.

Each round reconciles every organization's subscriptions with Calendly and finishes work that was interrupted.

A round makes one or two calls to Calendly per organization. Several processes may make rounds at once: each finds
done what another has done. A failure affects only its own organization; an organization without a connection that can
act is skipped until the next round.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum

from slotwire.ingest.control.organizations import Organizations
from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.lifecycle import pause
from slotwire.ingest.foundation.settings import SubscriptionsSettings
from slotwire.ingest.foundation.telemetry import SUBSCRIPTION_ROUNDS, SUBSCRIPTIONS_UNSERVED, get_logger
from slotwire.schemas.ids import OrganizationUri

AT_ONCE = 8
"""Organizations reconciled concurrently: each has a rate limit of its own at Calendly."""
FRESH_ROUNDS = 3
"""After how many rounds that did not end the last count is shown no more."""

_CANNOT_ACT = frozenset({"connection_missing", "connection_unable"})
_log = get_logger("rounds")


class RoundOutcome(StrEnum):
    """The outcome of a round for one organization; also the label of `slotwire_subscription_rounds`."""

    UNCHANGED = "unchanged"
    """Its subscriptions were as wanted."""
    CHANGED = "changed"
    """Subscriptions were created or deleted at Calendly."""
    PAUSED = "paused"
    """It has no connection that can act."""
    FAILED = "failed"
    """Calendly or Postgres failed; the next round tries again."""


async def run(organizations: Organizations, settings: SubscriptionsSettings) -> None:
    """Make rounds until cancelled."""
    while True:
        try:
            await run_once(organizations, fresh_seconds=FRESH_ROUNDS * settings.interval_seconds)
        except SlotwireError as problem:
            _log.warning("round_failed", error=problem.message)
        await pause(settings.interval_seconds)


async def run_once(organizations: Organizations, *, fresh_seconds: float | None = None) -> dict[str, RoundOutcome]:
    """Reconcile every organization once; returns the outcome by organization.

    Args:
        organizations: those to reconcile.
        fresh_seconds: how long the count of what is unserved is shown, unless another round comes before.

    Raises:
        DatabaseUnavailable: the organizations cannot be listed.
    """
    limit, outcomes = asyncio.Semaphore(AT_ONCE), dict[str, RoundOutcome]()
    unserved: dict[str, int] = {}

    async def reconcile(org: str, uri: OrganizationUri) -> None:
        async with limit:
            outcomes[org], unserved[org] = await _reconcile(organizations, org, uri)
            SUBSCRIPTION_ROUNDS.labels(outcomes[org]).inc()

    work = await organizations.with_work()
    async with asyncio.TaskGroup() as group:
        for org, uri in work:
            group.create_task(reconcile(org, uri))
    SUBSCRIPTIONS_UNSERVED.set(sum(unserved.values()), fresh_seconds=fresh_seconds)
    return outcomes


async def _reconcile(organizations: Organizations, org: str, uri: OrganizationUri) -> tuple[RoundOutcome, int]:
    """Return the outcome, and how many wanted subscriptions nothing serves."""
    wanted = 1  # until it is known: an organization in the list has work
    try:
        wanted = len(await organizations.subscriptions.wanted(org))
        best = await organizations.connections.for_organization(org)
        async with organizations.connections.acting(best) as calendly:
            result = await organizations.subscriptions.reconcile(calendly, uri, skip_in_progress=True)
    except SlotwireError as problem:
        if isinstance(problem, RequestRefused) and problem.code in _CANNOT_ACT:
            _log.warning("organization_paused", organization=org, reason=problem.code)
            return RoundOutcome.PAUSED, wanted
        _log.warning("organization_failed", organization=org, error=problem.message)
        return RoundOutcome.FAILED, wanted
    changed = bool(result.created or result.deleted or result.orphans)
    if changed:
        created, deleted = len(result.created), len(result.deleted)
        _log.info("subscriptions_changed", organization=org, created=created, deleted=deleted, orphans=result.orphans)
    return RoundOutcome.CHANGED if changed else RoundOutcome.UNCHANGED, wanted - len(result.serving)
