"""Connections as the database holds them: what is known of a credential, without its secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.control.connection_states import Standing, State
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.schemas.ids import OrganizationUri

if TYPE_CHECKING:
    import asyncpg

ADD = "slotwire connections add --token-file FILE"
"""The command that connects a user, or connects it anew."""

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """A connection as we know it, without its secret.

    Attributes:
        id: ours; stays when the credential is replaced.
        org: the last segment of the organization's URI.
        organization: the organization's URI, pinned.
        kind: `personal_access_token`.
        user_uri: whom it acts as, pinned.
        role: of that user in the organization, as Calendly last said: `owner`, `admin` or `user`; None: unknown.
        credential_id: names the secret; each replacement has a new one.
        scopes: what the token says it may; None where it does not say.
        expires_at: the credential's end; None where it has none.
        state: see docs/reference/states.md.
        reason: why it is not `active`: a short word.
        checked_at: when Calendly last answered to it.
        created_at: when the user was connected first.
        changed_at: when state or credential last changed.
    """

    id: UUID
    org: str
    organization: OrganizationUri
    kind: str
    user_uri: str
    role: str | None
    credential_id: UUID
    scopes: tuple[str, ...] | None
    expires_at: datetime | None
    state: State
    reason: str | None
    checked_at: datetime
    created_at: datetime
    changed_at: datetime

    @property
    def standing(self) -> Standing:
        """How it stands."""
        return Standing(self.state, self.reason)


@dataclass(frozen=True, slots=True)
class Kept:
    """A connection with what only whoever uses it needs."""

    record: ConnectionRecord
    shard: int
    external_id: str | None
    sealed: bytes = field(repr=False)


def connection_context(org: str, connection_id: UUID, credential_id: UUID) -> tuple[str, ...]:
    """Return what a sealed credential is bound to: it opens in this row of this organization only."""
    return ("connections", org, str(connection_id), str(credential_id))


async def read_kept(pool: Pool, connection_id: UUID, org: str | None) -> Kept:
    """Read one connection of an organization, or of any, with its sealed secret.

    Raises:
        RequestRefused: there is no such connection within reach.
    """
    with translated():
        row = await pool.fetchrow(_SQL["connection"], connection_id, org)
    if row is None:
        raise RequestRefused(
            "there is no such connection within reach",
            code="not_found",
            remedy="`slotwire connections list` shows what there is.",
        )
    return Kept(_record(row), row["shard"], row["external_id"], row["sealed"])


async def read_page(
    pool: Pool, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int
) -> tuple[ConnectionRecord, ...]:
    """List connections of one organization, or of all, oldest first."""
    time, last = after or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["connections_page"], org, time, last, limit)
    return tuple(map(_record, rows))


async def read_best(pool: Pool, org: str) -> ConnectionRecord | None:
    """Read the connection of an organization that may most; one that cannot act only where none can."""
    with translated():
        row = await pool.fetchrow(_SQL["best_connection"], org)
    return None if row is None else _record(row)


def unable(record: ConnectionRecord) -> RequestRefused:
    """Say that a connection cannot act, and what to do."""
    return RequestRefused(
        f"connection {record.id} cannot act: it is {record.state} ({record.reason})",
        code="connection_unable",
        remedy=f"Connect its user anew: {ADD}\n`slotwire connections check {record.id}` asks Calendly again.",
    )


def _record(row: asyncpg.Record) -> ConnectionRecord:
    values = {name: row[name] for name in ConnectionRecord.__slots__}
    scopes = values["scopes"]
    return ConnectionRecord(**{**values, "scopes": None if scopes is None else tuple(scopes)})
