"""Connections as they are stored: the record of a credential, with and without its sealed secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.ingest.control.connect_links import LINK
from slotwire.ingest.control.connection_states import ConnectionState, ConnectionStatus
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.schemas.ids import OrganizationUri

if TYPE_CHECKING:
    import asyncpg

OAUTH = "oauth"
"""The kind of a connection that a customer's consent made."""
ADD = "slotwire connections add --token-file FILE"
"""The command that connects a user, or replaces a user's credential."""

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """A stored connection, without its secret.

    Attributes:
        id: ours; stays the same when the credential is replaced.
        org: the last segment of the organization's URI.
        organization: the organization's URI, pinned.
        kind: `personal_access_token` or `oauth`.
        user_uri: the user it acts as, pinned.
        role: that user's role in the organization when Calendly was last asked: `owner`, `admin` or `user`; None if
            unknown.
        credential_id: identifies the secret; each replacement gets a new one.
        scopes: the scopes the token claims; None if it claims none.
        expires_at: when the credential expires; None if it does not.
        state: see docs/reference/states.md.
        reason: why it is not `active`: a short word; None while it is.
        checked_at: when Calendly last answered a call made with it.
        created_at: when the user was first connected.
        changed_at: when state or credential last changed.
        changes: how often its state changed.
        access_expires_at: of an OAuth connection: when the token to call with ends; None for others.
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
    state: ConnectionState
    reason: str | None
    checked_at: datetime
    created_at: datetime
    changed_at: datetime
    changes: int = 0
    access_expires_at: datetime | None = None

    @property
    def status(self) -> ConnectionStatus:
        """The state, with the reason for it."""
        return ConnectionStatus(self.state, self.reason)


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """A connection with its sealed secret and what its events need.

    Attributes:
        record: the connection.
        shard: the organization's shard of the log.
        external_id: the user's own name for the organization.
        sealed: the credential, sealed by the vault; never shown.
        refresh_sealed: of an OAuth connection: the refresh token, sealed too.
    """

    record: ConnectionRecord
    shard: int
    external_id: str | None
    sealed: bytes = field(repr=False)
    refresh_sealed: bytes | None = field(default=None, repr=False)


def connection_context(org: str, connection_id: UUID, credential_id: UUID) -> tuple[str, ...]:
    """Return the context a sealed credential is bound to: it opens only in this row of this organization."""
    return ("connections", org, str(connection_id), str(credential_id))


def refresh_context(org: str, connection_id: UUID, credential_id: UUID) -> tuple[str, ...]:
    """Return the context a sealed refresh token is bound to."""
    return (*connection_context(org, connection_id, credential_id), "refresh")


async def read_stored(pool: Pool, connection_id: UUID, org: str | None) -> StoredConnection:
    """Read one connection with its sealed secret.

    Args:
        pool: the database.
        connection_id: the connection.
        org: the organization it must belong to; None for any.

    Raises:
        RequestRefused: there is no such connection, or it belongs to another organization (`not_found`).
    """
    with translated():
        row = await pool.fetchrow(_SQL["connection"], connection_id, org)
    if row is None:
        raise RequestRefused(
            "there is no such connection within reach",
            code="not_found",
            remedy="List them: slotwire connections list",
        )
    return StoredConnection(_record(row), row["shard"], row["external_id"], row["sealed"], row["refresh_sealed"])


async def read_page(
    pool: Pool, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int
) -> tuple[ConnectionRecord, ...]:
    """List connections of one organization, or of all (None), oldest first, at most `limit` after a place."""
    created_at, connection_id = after or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["connections_page"], org, created_at, connection_id, limit)
    return tuple(map(_record, rows))


async def read_best(pool: Pool, org: str) -> ConnectionRecord | None:
    """Read an organization's most privileged connection that can act; one that cannot, only if none can."""
    with translated():
        row = await pool.fetchrow(_SQL["best_connection"], org)
    return None if row is None else _record(row)


async def read_of_user(pool: Pool, org: str, user_uri: str) -> ConnectionRecord | None:
    """Read the connection that acts as a user of an organization."""
    with translated():
        row = await pool.fetchrow(_SQL["connection_of_user"], org, user_uri)
    return None if row is None else _record(row)


def unable(record: ConnectionRecord) -> RequestRefused:
    """Make the error for a connection that cannot act, with what to do about it."""
    return RequestRefused(
        f"connection {record.id} cannot act: it is {record.state} ({record.reason})",
        code="connection_unable",
        remedy=f"{another_credential(record)}\nOr ask Calendly again: slotwire connections check {record.id}",
    )


def another_credential(record: ConnectionRecord) -> str:
    """Say how a connection that cannot act gets a credential that can."""
    if record.kind == OAUTH:
        return f"Send a user of the organization a new link: {LINK} {record.org}"
    return f"Create a new token in Calendly as a user of the organization, then: {ADD}"


def _record(row: asyncpg.Record) -> ConnectionRecord:
    values = {name: row[name] for name in ConnectionRecord.__slots__}
    scopes = values["scopes"]
    return ConnectionRecord(**{**values, "scopes": None if scopes is None else tuple(scopes)})
