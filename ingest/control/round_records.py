"""What a round leaves for the next one, in the organization's row of `slotwire.subscription_watch`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from slotwire.ingest.control.claims import OrganizationClaim
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

MAX_FINDINGS = 200
"""Findings of an organization that are counted."""

IDLE = timedelta(hours=1)
"""For how long the round of an organization is put off that has nothing to do. What is wanted ends that."""
MAX_IDLE = 10_000
"""How many are put off at once."""

_SQL = read_queries("slotwire.ingest.sql", "subscriptions.sql")


@dataclass(frozen=True, slots=True)
class WatchRecord:
    """What the last round left.

    Attributes:
        silent: whether the organization's silence is unusual.
        listed_at: when it was last listed.
        well_at: when a whole rotation began that found nothing disabled, gone or retrying.
        after_place: where the rotation over users and groups goes on; empty to begin.
        cycle_at: when the rotation began.
        cycle_well: whether it found nothing of the kind so far.
        rate_limit: calls a minute, as Calendly last said.
        departed: creators of subscriptions who left the organization.
        creators_at: when that was last asked.
        findings: what is wrong, a kind with its scope and subject each.
    """

    silent: bool = False
    listed_at: datetime | None = None
    well_at: datetime | None = None
    after_place: str = ""
    cycle_at: datetime | None = None
    cycle_well: bool = True
    rate_limit: int | None = None
    departed: tuple[str, ...] = ()
    creators_at: datetime | None = None
    findings: tuple[str, ...] = ()


async def read_watch(pool: Pool, org: str) -> WatchRecord:
    """Read what the last round left; nothing, if there was none."""
    with translated():
        row = await pool.fetchrow(_SQL["watch_row"], org)
    return (
        WatchRecord()
        if row is None
        else WatchRecord(**{**dict(row), "departed": tuple(row["departed"]), "findings": tuple(row["findings"])})
    )


async def end_round(
    pool: Pool, claim: OrganizationClaim, left: WatchRecord, *, next_at: datetime, unserved: int
) -> None:
    """Write what a round leaves, unless another process has the claim, and give the claim back."""
    findings = sorted(left.findings)[:MAX_FINDINGS]
    with translated():
        await pool.execute(
            _SQL["end_round"],
            *(claim.org, claim.epoch, next_at, left.listed_at, left.well_at, left.after_place, left.cycle_at),
            *(left.cycle_well, left.rate_limit, list(left.departed), left.creators_at, unserved, findings),
        )


async def watch_organizations(pool: Pool, now: datetime) -> None:
    """Give every organization with work its row, and put the rounds off of those without."""
    with translated():
        await pool.execute(_SQL["watch_organizations"])
        await pool.execute(_SQL["put_off_idle"], now, now + IDLE, MAX_IDLE)


async def hurry(pool: Pool, org: str) -> None:
    """Make an organization's next round due at once."""
    with translated():
        await pool.execute(_SQL["hurry"], org)


async def note_silence(pool: Pool, silent: Collection[str], now: datetime) -> None:
    """Note whose silence is unusual: whoever has fallen silent is due at once."""
    with translated():
        await pool.execute(_SQL["note_silence"], list(silent), now)
