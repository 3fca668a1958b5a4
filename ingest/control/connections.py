"""Connections: credentials that each act as one Calendly user, pinned to that user and organization.

A secret is sealed for its row. Before each use, Calendly is asked whose it is: a swapped row, another customer's
token, or a user who has changed organizations is refused before the credential can touch anything. The call that meets
a 401 records it: the state and the event that says so are one commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.control import connection_states
from slotwire.ingest.control.calendly_client import organization_memberships, users
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp, CalendlyTransport, CallRetries
from slotwire.ingest.control.connection_events import revoked_event
from slotwire.ingest.control.connection_records import (
    ADD,
    ConnectionRecord,
    StoredConnection,
    connection_context,
    read_best,
    read_stored,
    unable,
)
from slotwire.ingest.control.connection_states import ConnectionStatus, Observation
from slotwire.ingest.control.token_claims import TokenClaims, read_claims
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused, SecretUnreadable
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, borrowed, call_outright, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.receive.accept import committing, own_row
from slotwire.schemas.ids import OrganizationUri, last_segment

PERSONAL_ACCESS_TOKEN = "personal_access_token"  # noqa: S105 -- a kind of credential
FRESH = timedelta(minutes=1)
"""`checked_at` is updated at most this often while nothing else changes."""

ACCEPT_SECONDS = 5.0
"""How long the commit of a change of state, with its event, may take."""

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")
_log = get_logger("connections")


@dataclass(frozen=True, slots=True)
class Identity:
    """The owner of a token according to Calendly, and the token's own claims.

    Attributes:
        user_uri: the user.
        organization: the organization the user is in now.
        role: the user's role in that organization; None if the token may not ask for it.
        claims: what the token claims; not verified.
    """

    user_uri: str
    organization: OrganizationUri
    role: str | None
    claims: TokenClaims

    @property
    def org(self) -> str:
        """The last segment of the organization's URI."""
        return last_segment(self.organization)


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
class Connections:
    """Adds, checks, uses and deletes connections."""

    pool: Pool
    vault: Vault
    clock: Clock
    calendly: CalendlyHttp
    warn: timedelta
    retries: CallRetries

    @classmethod
    def from_settings(
        cls, settings: Settings, pool: Pool, clock: Clock, calendly: CalendlyHttp, *, retries: CallRetries | None = None
    ) -> Self:
        """Read the keys it needs.

        Raises:
            ConfigurationError: the vault's keys are missing or unfit.
        """
        warn = timedelta(days=settings.connections.expiring_days)
        vault = Vault.from_settings(settings.vault)
        return cls(pool, vault, clock, calendly, warn, retries or CallRetries())

    async def identify(self, token: SecretStr) -> Identity:
        """Ask Calendly whose token this is. Nothing is stored.

        Raises:
            CalendlyError: Calendly refused the token, or failed.
            ConfigurationError: the text cannot be a token.
        """
        caller = self.calendly.budgets.caller(None, Priority.PERSON)
        calendly = self.calendly.transport(token, caller, retries=self.retries)
        user = await users.me(calendly)
        caller.user = user.uri
        role = await _role(calendly, user.current_organization, user.uri)
        return Identity(user.uri, user.current_organization, role, read_claims(token))

    async def store(self, identity: Identity, token: SecretStr) -> AddConnectionResult:
        """Seal and store an identified token; if its user is connected already, it replaces the stored one.

        Raises:
            RequestRefused: the organization is not known here, or was removed; nothing is stored.
        """
        org, now, credential_id = identity.org, self.clock.now(), uuid4()
        async with borrowed(self.pool) as connection, connection.transaction():
            if await connection.fetchval(_SQL["lock_current_organization"], org) is None:
                raise RequestRefused(
                    "the token's organization is not known here, or was removed",
                    code="organization_unknown",
                    remedy="Add it first: slotwire organizations add --token-file FILE",
                )
            existing = await connection.fetchrow(_SQL["connection_of_user"], org, identity.user_uri)
            connection_id = uuid4() if existing is None else existing["id"]
            sealed = self.vault.seal(
                token.get_secret_value().encode(), context=connection_context(org, connection_id, credential_id)
            )
            claims = identity.claims
            previous = (
                ConnectionStatus("active")
                if existing is None
                else ConnectionStatus(existing["state"], existing["reason"])
            )
            status = connection_states.next_state(
                previous, Observation.CONNECTED, expires_at=claims.expires_at, now=now, warn=self.warn
            )
            columns = (
                identity.role,
                credential_id,
                sealed,
                claims.scopes,
                claims.expires_at,
                status.state,
                status.reason,
                now,
            )
            if existing is None:
                await connection.execute(
                    _SQL["insert_connection"],
                    connection_id,
                    org,
                    PERSONAL_ACCESS_TOKEN,
                    identity.user_uri,
                    *columns,
                )
            else:
                await connection.execute(_SQL["replace_credential"], connection_id, PERSONAL_ACCESS_TOKEN, *columns)
        return AddConnectionResult(await self.get(connection_id, org), new=existing is None)

    async def add(self, token: SecretStr, *, org: str | None = None) -> AddConnectionResult:
        """Connect the user a token belongs to, or replace that user's token.

        Args:
            token: a personal access token.
            org: the organization it must belong to; None accepts any.

        Raises:
            RequestRefused: the token belongs to another organization, or its organization is not known here.
            CalendlyError: Calendly refused the token, or failed.
        """
        identity = await self.identify(token)
        if org is not None and identity.org != org:
            raise RequestRefused(
                "the token belongs to another organization",
                code="token_of_another_organization",
                remedy="Give a token of a user of this organization.",
            )
        return await self.store(identity, token)

    async def get(self, connection_id: UUID, org: str | None = None) -> ConnectionRecord:
        """Read one connection of an organization, or of any (None).

        Raises:
            RequestRefused: there is no such connection, or it belongs to another organization (`not_found`).
        """
        return (await read_stored(self.pool, connection_id, org)).record

    async def for_organization(self, org: str) -> ConnectionRecord:
        """Find an organization's connection that can act and has the highest role: owner, then admin, then user.

        Raises:
            RequestRefused: there is none (`connection_missing`), or none can act (`connection_unable`).
        """
        best = await read_best(self.pool, org)
        if best is None:
            raise RequestRefused(
                f"the organization {org} has no connection to Calendly",
                code="connection_missing",
                remedy=f"Connect an owner or admin of it: {ADD}",
            )
        if not best.status.able:
            raise unable(best)
        return best

    @asynccontextmanager
    async def acting(
        self, connection: ConnectionRecord, *, priority: Priority = Priority.PERSON
    ) -> AsyncIterator[CalendlyTransport]:
        """Call Calendly as a connection's user while the block runs; Calendly first confirms who that is.

        If any call inside meets a 401, the connection is `revoked` and the event accepted before that call fails.

        Args:
            connection: as whose user.
            priority: how urgent the calls are among all that are made as this user.

        Raises:
            RequestRefused: it cannot act, or its user or organization is not the pinned one (`connection_unable`).
            SecretUnreadable: its secret does not open; its state is `error`.
            CalendlyError: Calendly refused or failed.
            DatabaseUnavailable: an observation could not be written.
        """
        stored = await read_stored(self.pool, connection.id, connection.org)
        async with self._opened(stored, priority) as calendly:
            await self._confirm(stored, calendly)
            yield calendly

    async def check(
        self, connection_id: UUID, org: str | None = None, *, priority: Priority = Priority.PERSON
    ) -> ConnectionRecord:
        """Ask Calendly once whether a connection still works, and for its user's role; return the updated connection.

        A revoked connection is not checked: that state is final until the credential is replaced.

        Raises:
            RequestRefused: there is no such connection, or it belongs to another organization (`not_found`).
            CalendlyError: Calendly failed; nothing is known about the connection.
        """
        stored = await read_stored(self.pool, connection_id, org)
        if stored.record.state != "revoked":
            try:
                await self._probe(stored, priority)
            except CalendlyError as error:
                if error.problem is not CalendlyProblem.CREDENTIAL and error.problem is not CalendlyProblem.SCOPE:
                    raise
            except (SecretUnreadable, IdentityChanged):
                pass  # recorded: the state says so
        return await self.get(connection_id, org)

    async def delete(self, connection_id: UUID, org: str | None = None) -> ConnectionRecord:
        """Delete a credential and return its connection as it was. Subscriptions created with it continue.

        Raises:
            RequestRefused: there is no such connection, or it belongs to another organization (`not_found`).
        """
        record = await self.get(connection_id, org)
        with translated():
            await self.pool.execute(_SQL["delete_connection"], connection_id, record.org)
        return record

    async def _probe(self, stored: StoredConnection, priority: Priority) -> None:
        async with self._opened(stored, priority, even_if_unable=True) as calendly:
            await self._confirm(stored, calendly, with_role=True)

    @asynccontextmanager
    async def _opened(
        self, stored: StoredConnection, priority: Priority, *, even_if_unable: bool = False
    ) -> AsyncIterator[CalendlyTransport]:
        """Open the secret. A connection in `error` is always tried again: opening its secret calls nobody."""
        record = stored.record
        if not record.status.able and record.state != "error" and not even_if_unable:
            raise unable(record)
        try:
            secret = self.vault.open(
                stored.sealed, context=connection_context(record.org, record.id, record.credential_id)
            )
        except SecretUnreadable:
            await self._record(record, Observation.UNREADABLE)
            raise

        async def refused() -> None:
            await self._revoke(stored)

        try:
            token = SecretStr(secret.decode())
            caller = self.calendly.budgets.caller(record.user_uri, priority)
            yield self.calendly.transport(token, caller, retries=self.retries, refused=refused)
        except CalendlyError as error:
            if error.problem is not CalendlyProblem.CREDENTIAL:
                raise
            message = f"{error.message}; connection {record.id} is revoked"
            remedy = f"Create a new token in Calendly as the same user, then: {ADD}"
            raise CalendlyError(message, problem=error.problem, status=error.status, remedy=remedy) from None

    async def _confirm(self, stored: StoredConnection, calendly: CalendlyTransport, *, with_role: bool = False) -> None:
        """Check that Calendly sees the pinned user and organization, before any other call is made."""
        record = stored.record
        try:
            user = await users.me(calendly)
        except CalendlyError as error:
            if error.problem is CalendlyProblem.SCOPE:
                await self._record(record, Observation.SCOPE_MISSING)
            raise
        if user.uri != record.user_uri:
            observation, reason = Observation.ANOTHER_USER, "its token belongs to a user other than the connected one"
        elif user.current_organization != record.organization:
            observation, reason = Observation.ANOTHER_ORGANIZATION, "its user is now in another organization"
        else:
            role = await _role(calendly, record.organization, record.user_uri) if with_role else None
            await self._record(record, Observation.ACCEPTED, role=role)
            return
        await self._record(record, observation)
        raise IdentityChanged(
            f"connection {record.id} is refused: {reason}",
            code="connection_unable",
            remedy=f"Connect a user of this organization with a new token: {ADD}",
        )

    async def _record(self, record: ConnectionRecord, observation: Observation, *, role: str | None = None) -> None:
        now = self.clock.now()
        status = connection_states.next_state(
            record.status, observation, expires_at=record.expires_at, now=now, warn=self.warn
        )
        calendly_answered = observation is not Observation.UNREADABLE
        changed = status != record.status
        if not changed and not (calendly_answered and (role or now - record.checked_at >= FRESH)):
            return
        if changed:
            _log_state(record, status)
        with translated():
            await self.pool.execute(
                _SQL["record_observation"],
                record.id,
                record.credential_id,
                status.state,
                status.reason,
                role,
                calendly_answered,
                now,
            )

    async def _revoke(self, stored: StoredConnection) -> None:
        """Change the state and accept the event, unless the credential was replaced or revoked meanwhile."""
        record, now = stored.record, self.clock.now()
        status = connection_states.next_state(
            record.status, Observation.REFUSED, expires_at=record.expires_at, now=now, warn=self.warn
        )
        event = own_row(record.org, revoked_event(record, status, now), now)
        arguments = (record.id, record.credential_id, status.reason, now, event)
        async with committing(self.pool, stored.shard) as connection:
            row = await call_outright(connection, _SQL["revoke_connection"], *arguments, seconds=ACCEPT_SECONDS)
        if row["position"] is not None:
            _log_state(record, status)


class IdentityChanged(RequestRefused):
    """Calendly sees a user or organization other than the pinned one. The connection's state records it."""


def _log_state(record: ConnectionRecord, status: ConnectionStatus) -> None:
    log = _log.info if status.able else _log.warning
    log("state_changed", connection=str(record.id), org=record.org, state=status.state, reason=status.reason)


async def _role(calendly: CalendlyTransport, organization: OrganizationUri, user: str) -> str | None:
    """Ask for the user's role; None if the token may not ask for it."""
    try:
        found = await organization_memberships.find(calendly, organization=organization, user=user)
    except CalendlyError as error:
        if error.problem in {CalendlyProblem.SCOPE, CalendlyProblem.PERMISSION}:
            return None
        raise
    return None if found is None else found.role
