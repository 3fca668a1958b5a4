"""Claims: one process at a time changes an organization's subscriptions, however many run.

A claim is a row with an epoch and an end. The end is for liveness only: what keeps two processes from changing the same
subscriptions is the epoch, which every change of state names, and which is asked for before each deletion at Calendly.
Whoever takes the claim moves it, so whoever had it before can change nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.schemas.ids import OrganizationUri

CLAIM = timedelta(minutes=3)
"""How long a claim lasts unless it is kept: longer than one deletion at Calendly with its retries may take."""
PATIENCE_SECONDS = 10.0
"""How long a command waits for a round that has the claim; then it takes it, and the round changes nothing more."""
POLL_SECONDS = 0.05

_SQL = read_queries("slotwire.ingest.sql", "subscriptions.sql")


class OrganizationClaimLost(RequestRefused):
    """Another process has begun to change the subscriptions of the organization: what was done stays."""

    def __init__(self) -> None:
        super().__init__(
            "another process changes the subscriptions of this organization",
            code="changed_meanwhile",
            remedy="Try again in a minute.",
        )


@dataclass(frozen=True, slots=True)
class OrganizationClaim:
    """The right to change an organization's subscriptions.

    Attributes:
        org: the organization.
        epoch: what a change of state names.
        shard: the organization's shard of the log.
    """

    org: str
    epoch: int
    shard: int


@dataclass(frozen=True, slots=True)
class DueRound:
    """An organization whose round is due, already claimed."""

    claim: OrganizationClaim
    uri: OrganizationUri


@asynccontextmanager
async def claimed(
    pool: Pool, clock: Clock, org: str, *, patience: float | None = PATIENCE_SECONDS
) -> AsyncIterator[OrganizationClaim]:
    """Hold the claim of an organization while the block runs.

    Args:
        pool: the database.
        clock: gives the time of the claim's end.
        org: the organization.
        patience: how long to wait for another holder, before the claim is taken by force; None never takes it by force,
            and waits for nobody.

    Raises:
        OrganizationClaimLost: another process has it, and there was no patience; or the organization is not known.
    """
    claim = await _take(pool, clock, org, patience)
    try:
        yield claim
    finally:
        with suppress(SlotwireError), translated():  # then it ends by itself
            await pool.execute(_SQL["leave_claim"], org, claim.epoch)


async def claim_due(pool: Pool, clock: Clock) -> DueRound | None:
    """OrganizationClaim the organization whose round is due for longest; None if no round is due."""
    now = clock.now()
    with translated():
        row = await pool.fetchrow(_SQL["claim_due"], now, now + CLAIM)
    return None if row is None else DueRound(OrganizationClaim(row["org"], row["epoch"], row["shard"]), row["uri"])


async def keep(pool: Pool, clock: Clock, claim: OrganizationClaim) -> None:
    """Keep a claim for another while.

    Raises:
        OrganizationClaimLost: another process has it.
    """
    with translated():
        kept = await pool.fetchval(_SQL["keep_claim"], claim.org, claim.epoch, clock.now() + CLAIM)
    if kept is None:
        raise OrganizationClaimLost


async def _take(pool: Pool, clock: Clock, org: str, patience: float | None) -> OrganizationClaim:
    loop = asyncio.get_running_loop()
    until = loop.time() + (patience or 0)
    with translated():
        await pool.execute(_SQL["watch_organization"], org)
    while True:
        now, force = clock.now(), patience is not None and loop.time() >= until
        with translated():
            row = await pool.fetchrow(_SQL["claim_organization"], org, now, now + CLAIM, force)
        if row is not None:
            return OrganizationClaim(org, row["epoch"], row["shard"])
        if force or patience is None:
            raise OrganizationClaimLost
        await asyncio.sleep(POLL_SECONDS)
