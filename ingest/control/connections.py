"""Connections: credentials that act as one Calendly user each, pinned to that user and organization.

A secret is sealed for its row, and before anything is done with it Calendly is asked whose it is: a swapped
row, another customer's token, or a user who has moved on is refused before it can touch anything. A 401 is
noticed where it happens: the event is written first, then the state, so that a death between the two repeats
the event's id and not the event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import organization_memberships, users
from slotwire.ingest.control.calendly_client.transport import RetryPolicy, Transport, connect
from slotwire.ingest.control.connection_events import revoked_event
from slotwire.ingest.control.connection_records import (
    ADD,
    ConnectionRecord,
    Kept,
    connection_context,
    read_best,
    read_kept,
    unable,
)
from slotwire.ingest.control.connection_states import Noticed, Standing, after
from slotwire.ingest.control.token_claims import TokenClaims, read_claims
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused, SecretUnreadable
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.log.batch import OwnEvent, own_arguments
from slotwire.schemas.ids import OrganizationUri, last_segment

PERSONAL_ACCESS_TOKEN = "personal_access_token"  # noqa: S105 -- a kind of credential
FRESH = timedelta(minutes=1)
"""How long Calendly's last answer to a credential is not written anew."""

_SQL = read_queries("slotwire.ingest.sql", "connections.sql")
_STORE = read_queries("slotwire.ingest.sql", "store.sql")
_log = get_logger("connections")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token it is, as Calendly says, and what the token says of itself.

    Attributes:
        user_uri: the user.
        organization: the organization the user is in now.
        role: in that organization; None where the token may not ask.
        claims: unproven.
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
class Added:
    """What a connection was made into.

    Attributes:
        connection: as it is now.
        new: False where the user was connected before, and its credential was replaced.
    """

    connection: ConnectionRecord
    new: bool


@dataclass(frozen=True, slots=True)
class Connections:
    """Makes, checks and uses connections."""

    pool: Pool
    vault: Vault
    clock: Clock
    calendly: CalendlySettings
    warn: timedelta
    retries: RetryPolicy

    @classmethod
    def from_settings(cls, settings: Settings, pool: Pool, clock: Clock, *, retries: RetryPolicy | None = None) -> Self:
        """Read the keys it needs.

        Raises:
            ConfigurationError: the vault's keys are missing or unfit.
        """
        warn = timedelta(days=settings.connections.expiring_days)
        vault = Vault.from_settings(settings.vault)
        return cls(pool, vault, clock, settings.calendly, warn, retries or RetryPolicy())

    async def identify(self, token: SecretStr) -> Identity:
        """Ask Calendly whose token this is. Nothing is kept.

        Raises:
            CalendlyError: Calendly refused the token, or failed.
            ConfigurationError: the text cannot be a token.
        """
        async with connect(self.calendly, token, retries=self.retries) as calendly:
            user = await users.me(calendly)
            role = await _role(calendly, user.current_organization, user.uri)
        return Identity(user.uri, user.current_organization, role, read_claims(token))

    async def keep(self, identity: Identity, token: SecretStr) -> Added:
        """Seal a token that was identified; where its user is connected already, it replaces the one before.

        Raises:
            RequestRefused: the organization is not known here, or was given up; nothing is kept.
        """
        org, now, credential = identity.org, self.clock.now(), uuid4()
        with translated():
            async with self.pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(_SQL["lock_kept_organization"], org) is None:
                    raise RequestRefused(
                        "the token's organization is not known here, or was given up",
                        code="organization_unknown",
                        remedy="Add it first: slotwire organizations add --token-file FILE",
                    )
                before = await connection.fetchrow(_SQL["connection_of_user"], org, identity.user_uri)
                made = uuid4() if before is None else before["id"]
                sealed = self.vault.seal(
                    token.get_secret_value().encode(), context=connection_context(org, made, credential)
                )
                claims = identity.claims
                stood = Standing("active") if before is None else Standing(before["state"], before["reason"])
                stands = after(stood, Noticed.CONNECTED, expires_at=claims.expires_at, now=now, warn=self.warn)
                what = (identity.role, credential, sealed, claims.scopes, claims.expires_at, *_pair(stands), now)
                if before is None:
                    await connection.execute(
                        _SQL["insert_connection"], made, org, PERSONAL_ACCESS_TOKEN, identity.user_uri, *what
                    )
                else:
                    await connection.execute(_SQL["replace_credential"], made, PERSONAL_ACCESS_TOKEN, *what)
        return Added(await self.get(made, org), new=before is None)

    async def add(self, token: SecretStr, *, org: str | None = None) -> Added:
        """Connect the user a token belongs to, or give it the token anew.

        Args:
            token: a personal access token.
            org: the organization the caller means; None takes the token's.

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
        return await self.keep(identity, token)

    async def get(self, connection_id: UUID, org: str | None = None) -> ConnectionRecord:
        """Read one connection of an organization, or of any.

        Raises:
            RequestRefused: there is no such connection within reach.
        """
        return (await read_kept(self.pool, connection_id, org)).record

    async def for_organization(self, org: str) -> ConnectionRecord:
        """Find the connection that may most of those that can act: an owner's before an admin's before a user's.

        Raises:
            RequestRefused: none can act: `connection_missing` or `connection_unable`, with what to do.
        """
        best = await read_best(self.pool, org)
        if best is None:
            raise RequestRefused(
                f"the organization {org} has no connection to Calendly",
                code="connection_missing",
                remedy=f"Connect an owner or admin of it: {ADD}",
            )
        if not best.standing.able:
            raise unable(best)
        return best

    @asynccontextmanager
    async def acting(self, connection: ConnectionRecord) -> AsyncIterator[Transport]:
        """Speak to Calendly as a connection's user while the block runs; Calendly confirms first who that is.

        A 401 anywhere inside is noticed where it happens: the connection is `revoked`, and its event is in the log,
        before the call that met it fails.

        Raises:
            RequestRefused: it cannot act (`connection_unable`), or it is not whom it was pinned to.
            SecretUnreadable: its secret does not open; its state is `error`.
            CalendlyError: Calendly refused or failed.
            DatabaseUnavailable: what was noticed could not be written.
        """
        kept = await read_kept(self.pool, connection.id, connection.org)
        async with self._opened(kept) as calendly:
            await self._confirm(kept, calendly)
            yield calendly

    async def check(self, connection_id: UUID, org: str | None = None) -> ConnectionRecord:
        """Ask Calendly once whether a connection is still good, and its user's role; returns it as it is then.

        A revoked one is not asked about: that is final until another credential is given.

        Raises:
            RequestRefused: there is no such connection within reach.
            CalendlyError: Calendly failed; nothing was learnt.
        """
        kept = await read_kept(self.pool, connection_id, org)
        if kept.record.state != "revoked":
            try:
                await self._probe(kept)
            except CalendlyError as error:
                if error.problem is not CalendlyProblem.CREDENTIAL and error.problem is not CalendlyProblem.SCOPE:
                    raise
            except (SecretUnreadable, _NotWhoItWas):
                pass  # noticed: the state says so
        return await self.get(connection_id, org)

    async def delete(self, connection_id: UUID, org: str | None = None) -> ConnectionRecord:
        """Forget a credential; what was subscribed with it goes on. Returns it as it was.

        Raises:
            RequestRefused: there is no such connection within reach.
        """
        record = await self.get(connection_id, org)
        with translated():
            await self.pool.execute(_SQL["delete_connection"], connection_id, record.org)
        return record

    async def _probe(self, kept: Kept) -> None:
        async with self._opened(kept, anew=True) as calendly:
            await self._confirm(kept, calendly, with_role=True)

    @asynccontextmanager
    async def _opened(self, kept: Kept, *, anew: bool = False) -> AsyncIterator[Transport]:
        """Open the secret. One in `error` is always tried anew, because that asks nobody."""
        record = kept.record
        if not record.standing.able and record.state != "error" and not anew:
            raise unable(record)
        try:
            secret = self.vault.open(
                kept.sealed, context=connection_context(record.org, record.id, record.credential_id)
            )
        except SecretUnreadable:
            await self._note(record, Noticed.UNREADABLE)
            raise

        async def refused() -> None:
            await self._revoke(kept)

        try:
            token = SecretStr(secret.decode())
            async with connect(self.calendly, token, retries=self.retries, refused=refused) as calendly:
                yield calendly
        except CalendlyError as error:
            if error.problem is not CalendlyProblem.CREDENTIAL:
                raise
            message = f"{error.message}; connection {record.id} is revoked"
            remedy = f"Make a new token in Calendly as the same user, then: {ADD}"
            raise CalendlyError(message, problem=error.problem, status=error.status, remedy=remedy) from None

    async def _confirm(self, kept: Kept, calendly: Transport, *, with_role: bool = False) -> None:
        """Compare whom Calendly sees with whom the connection is pinned to, before anything else is asked."""
        record = kept.record
        try:
            user = await users.me(calendly)
        except CalendlyError as error:
            if error.problem is CalendlyProblem.SCOPE:
                await self._note(record, Noticed.SCOPE_MISSING)
            raise
        if user.uri != record.user_uri:
            noticed, said = Noticed.ANOTHER_USER, "its token belongs to another user than it was connected for"
        elif user.current_organization != record.organization:
            noticed, said = Noticed.ANOTHER_ORGANIZATION, "its user is in another organization now"
        else:
            role = await _role(calendly, record.organization, record.user_uri) if with_role else None
            await self._note(record, Noticed.ACCEPTED, role=role)
            return
        await self._note(record, noticed)
        raise _NotWhoItWas(
            f"connection {record.id} is refused: {said}",
            code="connection_unable",
            remedy=f"Connect the user of this organization anew: {ADD}",
        )

    async def _note(self, record: ConnectionRecord, noticed: Noticed, *, role: str | None = None) -> None:
        now = self.clock.now()
        stands = after(record.standing, noticed, expires_at=record.expires_at, now=now, warn=self.warn)
        asked = noticed is not Noticed.UNREADABLE
        if stands == record.standing and not (asked and (role or now - record.checked_at >= FRESH)):
            return
        if stands != record.standing:
            said = _log.info if stands.able else _log.warning
            said("state_changed", connection=str(record.id), org=record.org, state=stands.state, reason=stands.reason)
        with translated():
            await self.pool.execute(
                _SQL["note_connection"], record.id, record.credential_id, *_pair(stands), role, asked, now
            )

    async def _revoke(self, kept: Kept) -> None:
        """Write the event, then the state. Who comes second, or again after a crash, finds the event's id taken."""
        seen, now = kept.record, self.clock.now()
        current = (await read_kept(self.pool, seen.id, None)).record
        if current.credential_id != seen.credential_id or current.state == "revoked":
            return
        stands = after(seen.standing, Noticed.REFUSED, expires_at=seen.expires_at, now=now, warn=self.warn)
        event = OwnEvent(revoked_event(seen, stands, now), seen.org, kept.external_id)
        with translated():
            await self.pool.fetchrow(_STORE["append_batch"], *own_arguments([event], shard=kept.shard, now=now))
        await self._note(seen, Noticed.REFUSED)


class _NotWhoItWas(RequestRefused):
    """Calendly sees another user or organization than the pinned ones. It was noticed in the state."""


async def _role(calendly: Transport, organization: OrganizationUri, user: str) -> str | None:
    """Ask for the user's role; None where the token may not ask."""
    try:
        found = await organization_memberships.find(calendly, organization=organization, user=user)
    except CalendlyError as error:
        if error.problem in {CalendlyProblem.SCOPE, CalendlyProblem.PERMISSION}:
            return None
        raise
    return None if found is None else found.role


def _pair(standing: Standing) -> tuple[str, str | None]:
    return standing.state, standing.reason
