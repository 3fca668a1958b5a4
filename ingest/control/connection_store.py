"""Writes connections: each change of state and the event that says so are one commit, or none.

A statement applies only to the connection as it was read. Where it has changed meanwhile, it is read again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.control import connection_states
from slotwire.ingest.control.connection_events import change_event, connected_event, revoked_event
from slotwire.ingest.control.connection_records import (
    OAUTH,
    ConnectionRecord,
    StoredConnection,
    connection_context,
    read_stored,
    refresh_context,
)
from slotwire.ingest.control.connection_states import ConnectionStatus, Observation
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, call_outright, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.receive.accept import OwnEvent, committing, own_row
from slotwire.schemas.ids import OrganizationUri

PERSONAL_ACCESS_TOKEN = "personal_access_token"  # noqa: S105 -- a kind of credential
FRESH = timedelta(minutes=1)
"""`checked_at` is updated at most this often while nothing else changes."""
ACCEPT_SECONDS = 5.0
"""How long the commit of a change of state, with its event, may take."""
READS = 8
"""How often a connection that others keep changing is read again."""

Reconnect: TypeAlias = Callable[[str], Awaitable[str | None]]
"""Makes a link under which a user of an organization connects again; None where that is not possible."""

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")
_log = get_logger("connections")


@dataclass(frozen=True, slots=True)
class HeldGrant:
    """A grant that a flow has in hand.

    Attributes:
        link_id: the link that brought it.
        mark: the flow's own, as long as nobody has taken the grant from it.
    """

    link_id: UUID
    mark: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that Calendly just gave or accepted.

    Attributes:
        kind: `personal_access_token` or `oauth`.
        token: the token to call with.
        refresh: the refresh token of an OAuth credential; None for others.
        access_expires_at: when that token ends; None for a personal access token.
        refresh_at: half of that life.
        scopes: the scopes it has; None if unknown.
        expires_at: when the credential ends for good; None if it does not.
        held: the grant in hand that is settled as it is stored; None if there is none.
    """

    kind: str
    token: SecretStr
    refresh: SecretStr | None = None
    access_expires_at: datetime | None = None
    refresh_at: datetime | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    held: HeldGrant | None = None


@dataclass(frozen=True, slots=True)
class AddConnectionResult:
    """The result of connecting a user.

    Attributes:
        connection: the connection as it is now.
        new: False if the user was connected already and the credential was replaced.
    """

    connection: ConnectionRecord
    new: bool


@dataclass(frozen=True, slots=True)
class ConnectionStore:
    """Writes connections, sealed."""

    pool: Pool
    vault: Vault
    clock: Clock
    warn: timedelta
    reconnect: Reconnect | None = field(default=None, repr=False)

    async def put(
        self, org: str, organization: OrganizationUri, user_uri: str, role: str | None, credential: Credential
    ) -> AddConnectionResult:
        """Store a user's credential; if the user is connected already, it replaces the stored one.

        Raises:
            RequestRefused: the organization is not known here, or was removed; nothing is stored.
        """
        for _ in range(READS):
            with translated():
                row = await self.pool.fetchrow(_SQL["user_in_organization"], org, user_uri)
            if row is None:
                raise _organization_unknown()
            was = None if row["id"] is None else _Was(row["credential_id"], row["changes"], row["state"], row["reason"])
            now = self.clock.now()
            made = ConnectionRecord(
                id=row["id"] or uuid4(),
                org=org,
                organization=organization,
                kind=credential.kind,
                user_uri=user_uri,
                role=role,
                credential_id=uuid4(),
                scopes=credential.scopes,
                expires_at=credential.expires_at,
                state="active",
                reason=None,
                checked_at=now,
                created_at=row["created_at"] or now,
                changed_at=now,
                changes=0 if was is None else was.changes,
                access_expires_at=credential.access_expires_at,
            )
            outcome, stored = await self._store(row["shard"], made, was, credential)
            if outcome == "unknown":
                raise _organization_unknown()
            if outcome == "stored":
                return AddConnectionResult(stored, new=was is None)
        raise RequestRefused(
            "others kept changing this connection", code="changed_meanwhile", remedy="Try again in a minute."
        )

    async def replace(self, connection_id: UUID, credential_id: UUID, credential: Credential) -> bool:
        """Store the next credential of a connection in place of one, whatever state that left it in.

        Returns:
            whether it is stored; False where the connection is gone or has another credential already.
        """
        while True:
            try:
                stored = await read_stored(self.pool, connection_id, None)
            except RequestRefused:
                return False
            record = stored.record
            if record.credential_id != credential_id:
                return False
            was = _Was(credential_id, record.changes, record.state, record.reason)
            now = self.clock.now()
            made = replace(
                record, credential_id=uuid4(), scopes=credential.scopes or record.scopes, checked_at=now, changed_at=now
            )
            outcome, _ = await self._store(stored.shard, made, was, credential)
            if outcome != "stale":
                return outcome == "stored"

    async def _store(
        self, shard: int, made: ConnectionRecord, was: _Was | None, credential: Credential
    ) -> tuple[str, ConnectionRecord]:
        now = made.changed_at
        before = ConnectionStatus("active") if was is None else was.status
        status = connection_states.next_state(
            before, Observation.CONNECTED, expires_at=credential.expires_at, now=now, warn=self.warn
        )
        made = replace(made, state=status.state, reason=status.reason)
        event = connected_event(made, now) if was is None else change_event(made, before, now)
        arguments = (
            made.id,
            None if was is None else was.credential_id,
            made.changes,
            made.org,
            credential.kind,
            made.user_uri,
            made.role,
            made.credential_id,
            self._seal(credential.token, connection_context(made.org, made.id, made.credential_id)),
            self._seal(credential.refresh, refresh_context(made.org, made.id, made.credential_id)),
            credential.access_expires_at,
            credential.refresh_at,
            made.scopes,
            credential.expires_at,
            status.state,
            status.reason,
            now,
        )
        held = (None, None) if credential.held is None else (credential.held.link_id, credential.held.mark)
        row = await self._call(shard, _SQL["store_connection"], *arguments, _row(made.org, event, now), *held)
        if row["outcome"] == "stored" and event is not None and was is not None:
            log_state(made, status)
        return row["outcome"], replace(made, changes=made.changes + (event is not None and was is not None))

    async def observe(
        self, stored: StoredConnection, observation: Observation, *, role: str | None = None
    ) -> ConnectionStatus:
        """Record what was observed about a credential; return the status that follows from it.

        Nothing changes if it was replaced or revoked meanwhile.
        """
        record, now = stored.record, self.clock.now()
        status = connection_states.next_state(
            record.status, observation, expires_at=record.expires_at, now=now, warn=self.warn
        )
        answered = observation not in {Observation.UNREADABLE, Observation.REFRESH_FAILS}
        if status.state == record.state:
            due = answered and (role or now - record.checked_at >= FRESH)
            if due or status.reason != record.reason:
                arguments = (record.id, record.credential_id, role, answered, status.reason, now, status.state)
                with translated():
                    await self.pool.execute(_SQL["record_observation"], *arguments)
            return status
        url = await self._reconnect_url(record) if not status.able else None
        event = change_event(replace(record, state=status.state, reason=status.reason), record.status, now, url)
        change = (record.id, record.credential_id, record.changes, status.state, status.reason, role, answered, now)
        row = await self._call(stored.shard, _SQL["change_connection"], *change, _row(record.org, event, now))
        if row["changed"]:
            log_state(record, status)
        return status

    async def revoke(self, stored: StoredConnection) -> None:
        """Calendly refused a credential: record it, unless the credential was replaced or revoked meanwhile."""
        record, now = stored.record, self.clock.now()
        status = connection_states.next_state(
            record.status, Observation.REFUSED, expires_at=record.expires_at, now=now, warn=self.warn
        )
        event = revoked_event(record, status, now, await self._reconnect_url(record))
        arguments = (record.id, record.credential_id, status.reason, now, own_row(record.org, event, now))
        async with committing(self.pool, stored.shard) as connection:
            row = await call_outright(connection, _SQL["revoke_connection"], *arguments, seconds=ACCEPT_SECONDS)
        if row["position"] is not None:
            log_state(record, status)

    async def disconnect(self, stored: StoredConnection) -> None:
        """Delete a connection that somebody ended."""
        record, now = stored.record, self.clock.now()
        event = revoked_event(record, ConnectionStatus("revoked", "disconnected"), now)
        await self._call(stored.shard, _SQL["disconnect"], record.id, now, own_row(record.org, event, now))

    async def _reconnect_url(self, record: ConnectionRecord) -> str | None:
        if record.kind != OAUTH or self.reconnect is None:
            return None
        return await self.reconnect(record.org)

    async def _call(self, shard: int, statement: str, *arguments: object) -> Any:
        async with committing(self.pool, shard) as connection:
            return await call_outright(connection, statement, *arguments, seconds=ACCEPT_SECONDS)

    def _seal(self, secret: SecretStr | None, context: tuple[str, ...]) -> bytes | None:
        return None if secret is None else self.vault.seal(secret.get_secret_value().encode(), context=context)


@dataclass(frozen=True, slots=True)
class _Was:
    """A connection as it was read."""

    credential_id: UUID
    changes: int
    state: connection_states.ConnectionState
    reason: str | None

    @property
    def status(self) -> ConnectionStatus:
        return ConnectionStatus(self.state, self.reason)


def _row(org: str, event: OwnEvent | None, now: datetime) -> object:
    return None if event is None else own_row(org, event, now)


def log_state(record: ConnectionRecord, status: ConnectionStatus) -> None:
    """Write a line about a change of state."""
    log = _log.info if status.able else _log.warning
    log("state_changed", connection=str(record.id), org=record.org, state=status.state, reason=status.reason)


def _organization_unknown() -> RequestRefused:
    return RequestRefused(
        "the token's organization is not known here, or was removed",
        code="organization_unknown",
        remedy="Add it first: slotwire organizations add --token-file FILE",
    )
