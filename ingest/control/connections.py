"""Connections: credentials that each act as one Calendly user, pinned to that user and organization.

A secret is sealed for its row. Before each use, Calendly is asked whose it is: a swapped row, another customer's
token, or a user who has changed organizations is refused before the credential can touch anything. The call that meets
a 401 records it: the state and the event that says so are one commit. A 401 to a token of OAuth is none yet: it is
refreshed once, because its grant may still be good.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self
from uuid import UUID

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import organization_memberships, users
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp, CalendlyTransport
from slotwire.ingest.control.calendly_client.uses import CHORES, ActingAs, Bearer, Behalf
from slotwire.ingest.control.connect_links import ConnectLinks
from slotwire.ingest.control.connection_records import (
    ADD,
    OAUTH,
    ConnectionRecord,
    StoredConnection,
    another_credential,
    connection_context,
    read_best,
    read_stored,
    unable,
)
from slotwire.ingest.control.connection_states import Observation
from slotwire.ingest.control.connection_store import (
    PERSONAL_ACCESS_TOKEN,
    AddConnectionResult,
    ConnectionStore,
    Credential,
    Reconnect,
)
from slotwire.ingest.control.oauth_refresh import MARGIN, Refresher
from slotwire.ingest.control.token_claims import TokenClaims, read_claims
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused, SecretUnreadable
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.keys.vault import Vault
from slotwire.schemas.ids import OrganizationUri, last_segment

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")


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
class Connections:
    """Adds, checks, uses and deletes connections. The audit says on whose behalf."""

    pool: Pool
    vault: Vault
    clock: Clock
    calendly: CalendlyHttp
    warn: timedelta
    retries: CallRetries
    oauth: Refresher | None = field(default=None, repr=False)
    reconnect: Reconnect | None = field(default=None, repr=False)
    behalf: Behalf = CHORES

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        pool: Pool,
        clock: Clock,
        calendly: CalendlyHttp,
        *,
        retries: CallRetries | None = None,
        behalf: Behalf = CHORES,
    ) -> Self:
        """Read the keys it needs.

        Raises:
            ConfigurationError: the vault's keys are missing or unfit.
        """
        warn = timedelta(days=settings.connections.expiring_days)
        vault = Vault.from_settings(settings.vault)
        links = ConnectLinks.from_settings(settings, pool, clock)
        reconnect = links.to_connect_again if links.has_app else None
        oauth = Refresher.from_settings(settings, pool, calendly, ConnectionStore(pool, vault, clock, warn, reconnect))
        return cls(pool, vault, clock, calendly, warn, retries or CallRetries(), oauth, reconnect, behalf)

    async def identify(self, token: SecretStr) -> Identity:
        """Ask Calendly whose token this is. Nothing is stored.

        Raises:
            CalendlyError: Calendly refused the token, or failed.
            ConfigurationError: the text cannot be a token.
        """
        by = Bearer(behalf=self.behalf, mark=self.vault.mark)
        caller = self.calendly.budgets.caller(None, Priority.PERSON, by=by)
        calendly = self.calendly.transport(token, caller, retries=self.retries)
        user = await users.me(calendly)
        caller.user, by.org = user.uri, last_segment(user.current_organization)
        role = await _role(calendly, user.current_organization, user.uri)
        return Identity(user.uri, user.current_organization, role, read_claims(token))

    async def store(self, identity: Identity, token: SecretStr) -> AddConnectionResult:
        """Seal and store an identified token; if its user is connected already, it replaces the stored one.

        Raises:
            RequestRefused: the organization is not known here, or was removed; nothing is stored.
        """
        claims = identity.claims
        credential = Credential(PERSONAL_ACCESS_TOKEN, token, scopes=claims.scopes, expires_at=claims.expires_at)
        return await self.store_credential(identity, credential)

    async def store_credential(self, identity: Identity, credential: Credential) -> AddConnectionResult:
        """Seal and store a credential of any kind; see `store`."""
        return await self._writes.put(identity.org, identity.organization, identity.user_uri, identity.role, credential)

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
        self, connection: ConnectionRecord, *, priority: Priority = Priority.PERSON, behalf: Behalf | None = None
    ) -> AsyncIterator[CalendlyTransport]:
        """Call Calendly as a connection's user while the block runs; Calendly first confirms who that is.

        If any call inside meets a 401, the connection is `revoked` and the event accepted before that call fails. One
        by OAuth is refreshed first, and the call made again: it is `revoked` if that is refused too.

        Args:
            connection: as whose user.
            priority: how urgent the calls are among all that are made as this user.
            behalf: on whose behalf, for the audit; None for whom these connections act for anyway.

        Raises:
            RequestRefused: it cannot act, or its user or organization is not the pinned one (`connection_unable`).
            SecretUnreadable: its secret does not open; its state is `error`.
            CalendlyError: Calendly refused or failed.
            DatabaseUnavailable: an observation could not be written.
        """
        stored = await read_stored(self.pool, connection.id, connection.org)
        async with self._opened(stored, priority, behalf=behalf) as calendly:
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

    async def forget(self, stored: StoredConnection) -> None:
        """Delete an OAuth connection whose grant was revoked, with the event that says so."""
        await self._writes.disconnect(stored)

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
        self,
        stored: StoredConnection,
        priority: Priority,
        *,
        even_if_unable: bool = False,
        behalf: Behalf | None = None,
    ) -> AsyncIterator[CalendlyTransport]:
        """Open the secret. A connection in `error` is always tried again: opening its secret calls nobody."""
        record = stored.record
        if not record.status.able and record.state != "error" and not even_if_unable:
            raise unable(record)
        in_use = [stored]  # an OAuth credential is replaced while the block runs

        async def refused(again: bool) -> bool:
            was = in_use[0]
            if was.record.kind == OAUTH and not again:
                in_use[0] = now = await self._after_refusal(was)
                if now.record.credential_id != was.record.credential_id:
                    return True
                if now.record.state != was.record.state:
                    return False  # recorded by the refresh
            await self._writes.revoke(in_use[0])
            return False

        async def renewed() -> SecretStr:
            in_use[0] = await self._fresh(in_use[0])
            return self._token(in_use[0])

        app = record.kind == OAUTH
        try:
            token = await renewed() if app else self._token(stored)
            by = Bearer(record.org, record.id, behalf or self.behalf, self.vault.mark)
            caller = self.calendly.budgets.caller(record.user_uri, priority, by=by)
            calendly = self.calendly.transport(
                token, caller, retries=self.retries, refused=refused, renewed=renewed if app else None
            )
            calendly.acting = ActingAs(record.id, app)
            yield calendly
        except SecretUnreadable:
            await self._writes.observe(in_use[0], Observation.UNREADABLE)
            raise
        except CalendlyError as error:
            if error.problem is not CalendlyProblem.CREDENTIAL:
                raise
            state = "needs_reauth" if in_use[0].record.state == "needs_reauth" else "revoked"
            message = f"{error.message}; connection {record.id} is {state}"
            remedy = another_credential(record)
            raise CalendlyError(message, problem=error.problem, status=error.status, remedy=remedy) from None

    async def _confirm(self, stored: StoredConnection, calendly: CalendlyTransport, *, with_role: bool = False) -> None:
        """Check that Calendly sees the pinned user and organization, before any other call is made."""
        record = stored.record
        try:
            user = await users.me(calendly)
        except CalendlyError as error:
            if error.problem is CalendlyProblem.SCOPE:
                await self._writes.observe(stored, Observation.SCOPE_MISSING)
            raise
        if user.uri != record.user_uri:
            observation, reason = Observation.ANOTHER_USER, "its token belongs to a user other than the connected one"
        elif user.current_organization != record.organization:
            observation, reason = Observation.ANOTHER_ORGANIZATION, "its user is now in another organization"
        else:
            role = await _role(calendly, record.organization, record.user_uri) if with_role else None
            await self._writes.observe(stored, Observation.ACCEPTED, role=role)
            return
        await self._writes.observe(stored, observation)
        raise IdentityChanged(
            f"connection {record.id} is refused: {reason}",
            code="connection_unable",
            remedy=another_credential(record),
        )

    async def _fresh(self, stored: StoredConnection) -> StoredConnection:
        """Return a connection whose token lasts for the next call; it is refreshed if it does not."""
        ends = stored.record.access_expires_at
        if ends is None or ends - self.clock.now() > MARGIN:
            return stored
        if self.oauth is None:
            raise RequestRefused(
                f"connection {stored.record.id} cannot act here: its token has ended, and no OAuth app is set",
                code="connection_unable",
                remedy="Set SLOTWIRE_OAUTH__CLIENT_ID and what belongs to it for this process.",
            )
        return await self.oauth.renewed(stored)

    async def _after_refusal(self, stored: StoredConnection) -> StoredConnection:
        """Calendly refused a token of OAuth: its grant may still be good."""
        if self.oauth is None:
            raise RequestRefused(
                f"connection {stored.record.id} cannot act here: Calendly refused its token, and no OAuth app is set",
                code="connection_unable",
                remedy="Set SLOTWIRE_OAUTH__CLIENT_ID and what belongs to it for this process.",
            )
        return await self.oauth.after_refusal(stored)

    def _token(self, stored: StoredConnection) -> SecretStr:
        record = stored.record
        context = connection_context(record.org, record.id, record.credential_id)
        return SecretStr(self.vault.open(stored.sealed, context=context).decode())

    @property
    def _writes(self) -> ConnectionStore:
        return ConnectionStore(self.pool, self.vault, self.clock, self.warn, self.reconnect)


class IdentityChanged(RequestRefused):
    """Calendly sees a user or organization other than the pinned one. The connection's state records it."""


async def _role(calendly: CalendlyTransport, organization: OrganizationUri, user: str) -> str | None:
    """Ask for the user's role; None if the token may not ask for it."""
    try:
        found = await organization_memberships.find(calendly, organization=organization, user=user)
    except CalendlyError as error:
        if error.problem in {CalendlyProblem.SCOPE, CalendlyProblem.PERMISSION}:
            return None
        raise
    return None if found is None else found.role
