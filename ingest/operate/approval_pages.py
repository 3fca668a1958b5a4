"""Approvals as operators see them: what agents ask somebody to decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.agent_filter import AgentFilter

_SQL = read_queries("slotwire.ingest.sql", "approvals.sql")


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """An approval; see the fields of the same names in `approval_models`.

    Attributes:
        digest: SHA-256 of `what`.
    """

    id: UUID
    agent: str
    event_id: UUID
    name: str
    org: str
    person: str
    what: str
    digest: bytes
    state: str
    asked_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None


async def read_page(
    pool: Pool, only: AgentFilter, *, before: tuple[datetime, UUID] | None, limit: int
) -> list[ApprovalRow]:
    """Read approvals before a place, newest first."""
    at, last = before or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["approvals_page"], only.org, only.agent, only.state, at, last, limit)
    return [ApprovalRow(**row) for row in rows]


async def read_one(pool: Pool, approval_id: UUID, org: str | None) -> ApprovalRow | None:
    """Read one approval; None when it is not within reach."""
    with translated():
        row = await pool.fetchrow(_SQL["one_approval"], approval_id, org)
    return None if row is None else ApprovalRow(**row)


async def decide(pool: Pool, approval_id: UUID, digest: bytes, *, approved: bool, by: str, now: datetime) -> bool:
    """Decide; returns False where it was decided before, its time is over, or the digest is another one."""
    with translated():
        decided: bool = await pool.fetchval(_SQL["decide_approval"], approval_id, digest, approved, by, now)
    return decided
