"""Organizations: added from a token in one step, listed, and removed again.

Adding checks first and reports everything that is missing at once. Then it stores the organization, the connection
and the wanted subscriptions, and reconciles them with Calendly. Each step can be repeated: adding an organization
twice has the effect of adding it once. Removing deletes the subscriptions at Calendly before the credential that
deletes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import SecretStr

from slotwire.ingest.control import catalogue
from slotwire.ingest.control.backfill import PATIENCE_SECONDS, BackfillProgress, backfill_organization
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp, CalendlyTransport
from slotwire.ingest.control.calendly_client.uses import CHORES, Behalf
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_store import PERSONAL_ACCESS_TOKEN, Credential
from slotwire.ingest.control.connections import Connections, Identity
from slotwire.ingest.control.organization_records import OrganizationRecord, store, store_name
from slotwire.ingest.control.signing_keys import revoke_all
from slotwire.ingest.control.subscription_calls import ChangeWatcher, unwatched
from slotwire.ingest.control.subscription_facts import SubscriptionRecord, WantedSubscription
from slotwire.ingest.control.subscriptions import ReconcileResult, Subscriptions
from slotwire.ingest.errors import CalendlyError, RequestRefused, SecretUnreadable
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.schemas.ids import OrganizationUri

ADMINISTRATORS = frozenset({"owner", "admin"})
"""Roles whose token may subscribe a whole organization."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")


@dataclass(frozen=True, slots=True)
class AddOrganizationResult:
    """The result of adding an organization.

    Attributes:
        organization: the organization as it is now.
        connection: the connection of the token's user.
        subscriptions: the result of reconciling its subscriptions.
    """

    organization: OrganizationRecord
    connection: ConnectionRecord
    subscriptions: ReconcileResult


@dataclass(frozen=True, slots=True)
class RemoveOrganizationResult:
    """The result of removing an organization.

    Attributes:
        organization: the organization as it is now; `ended_at` is None while something is left.
        ended: subscriptions that were ended at Calendly and here.
        left: subscriptions that Calendly may still have, each with the reason.
        connections: ids of the credentials that were deleted.
        keys: ids of the management API keys that were revoked, because they reach this organization only.
        signing_keys: ids of the signing keys that were revoked at once.
    """

    organization: OrganizationRecord
    ended: tuple[SubscriptionRecord, ...]
    left: tuple[tuple[SubscriptionRecord, str], ...]
    connections: tuple[UUID, ...]
    keys: tuple[UUID, ...]
    signing_keys: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Organizations:
    """Adds, lists and removes organizations."""

    pool: Pool
    clock: Clock
    connections: Connections
    subscriptions: Subscriptions

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        pool: Pool,
        clock: Clock,
        calendly: CalendlyHttp,
        *,
        retries: CallRetries | None = None,
        changing: ChangeWatcher = unwatched,
        behalf: Behalf = CHORES,
    ) -> Self:
        """Read the keys it needs.

        Args:
            settings: keys and addresses.
            pool: the database.
            clock: gives the times that are written.
            calendly: the process's connections to Calendly.
            retries: of calls to Calendly.
            changing: wraps each change of subscriptions at Calendly.
            behalf: on whose behalf Calendly is called.

        Raises:
            ConfigurationError: vault or hook keys are missing or unfit.
        """
        connections = Connections.from_settings(settings, pool, clock, calendly, retries=retries, behalf=behalf)
        return cls(pool, clock, connections, Subscriptions.from_settings(settings, pool, clock, changing=changing))

    def on_behalf(self, behalf: Behalf) -> Self:
        """Return the same, acting on behalf of somebody else."""
        return replace(self, connections=replace(self.connections, behalf=behalf))

    async def add(
        self,
        token: SecretStr,
        *,
        org: str | None = None,
        external_id: str | None = None,
        events: Sequence[str] = (),
        max_age_seconds: int | None = None,
    ) -> AddOrganizationResult:
        """Connect a token's user and subscribe the organization; adding it again changes only what differs.

        Events that Calendly has for users only are subscribed to for the token's user.

        Args:
            token: a token of an owner or admin of the organization.
            org: the organization the token must belong to; None accepts any.
            external_id: the user's own name for it, if it has none yet; None leaves it unchanged.
            events: names as Calendly writes them; empty leaves what is wanted unchanged; the first time it means
                `catalogue.DEFAULT_EVENTS`.
            max_age_seconds: quarantine authentic deliveries that are older; None leaves it unchanged; the first time it
                means any age.

        Raises:
            RequestRefused: something is missing: the message names all of it, or the organization has another external
                id (`external_id_set`); nothing was stored.
            ConfigurationError: Calendly could not reach us at `SLOTWIRE_PUBLIC_URL`; nothing was stored.
            CalendlyError: Calendly refused or failed. If it refused the subscription, the organization and the
                connection are stored: adding again, or the manager's next round, continues from there.
        """
        catalogue.split_events(events)  # unknown events are refused before Calendly is asked
        self.subscriptions.check_address()
        identity = await self.connections.identify(token)
        if org is not None and identity.org != org:
            raise _other_organization()
        claims = identity.claims
        credential = Credential(PERSONAL_ACCESS_TOKEN, token, scopes=claims.scopes, expires_at=claims.expires_at)
        return await self.connect(
            identity, credential, external_id=external_id, events=events, max_age_seconds=max_age_seconds
        )

    async def connect(
        self,
        identity: Identity,
        credential: Credential,
        *,
        external_id: str | None = None,
        events: Sequence[str] = (),
        max_age_seconds: int | None = None,
    ) -> AddOrganizationResult:
        """Store an identified user's credential and subscribe the organization; see `add`.

        The credential is stored last: with it, the rounds have all that they need to go on.
        """
        before = () if events else await self.subscriptions.wanted(identity.org)
        wanted = _with_max_age(before, max_age_seconds) or _wanted_for(events, identity, max_age_seconds)
        needed = tuple(dict.fromkeys(event for item in wanted for event in item.events))
        _require(identity, needed, administrator=any(item.scope == "organization" for item in wanted))
        await store(self.pool, identity.org, identity.organization, external_id, now=self.clock.now())
        for item in wanted:
            await self.subscriptions.want(identity.org, item)
        stored = await self.connections.store_credential(identity, credential)
        async with self.connections.acting(stored.connection) as calendly:
            result = await self.subscriptions.reconcile(calendly, identity.organization)
        return AddOrganizationResult(await self.get(identity.org), stored.connection, result)

    async def rename(self, org: str, external_id: str | None) -> OrganizationRecord:
        """Give an organization another external id, or none: its next events carry that.

        Raises:
            RequestRefused: there is no such organization (`not_found`), or another one has that external id
                (`organization_refused`).
        """
        await store_name(self.pool, org, external_id)
        return await self.get(org)

    async def remove(self, org: str, *, force: bool = False, at_once: bool = False) -> RemoveOrganizationResult:
        """Remove an organization: first its subscriptions at Calendly, then its credentials. Its history stays.

        Subscriptions that Calendly does not delete are left and reported, and the credentials stay; removing again
        continues from there.

        Args:
            org: the last segment of the organization's URI.
            force: also remove what Calendly does not delete: it goes on sending, and is answered 401 after 48 h.
            at_once: first revoke its signing keys, those of ended subscriptions too: from then on nothing is accepted.

        Raises:
            RequestRefused: there is no such organization (`not_found`).
        """
        organization = await self.get(org)
        await self.subscriptions.unwant(org)
        signing_keys = await revoke_all(self.pool, org) if at_once else ()
        ended, left = await self._end_subscriptions(organization)
        if left and force:
            ended += [await self.subscriptions.end_without_calendly(item) for item, _ in left]
        connections: list[UUID] = []
        keys: list[UUID] = []
        if force or not left:
            if self.connections.oauth is not None:
                await self.connections.oauth.revoke_all(org)
            now = self.clock.now()
            async with borrowed(self.pool) as connection, connection.transaction():
                # A user who is being connected now is either deleted here, or refused because it was removed.
                await connection.execute(_SQL["lock_organization"], org)
                connections = [row["id"] for row in await connection.fetch(_SQL["delete_connections_of"], org)]
                keys = [row["id"] for row in await connection.fetch(_SQL["revoke_keys_of"], org, now)]
                await connection.execute(_SQL["forget_open_holes_of"], org)
                await connection.execute(_SQL["end_runs_of"], org, now)
                await connection.execute(_SQL["forget_chains_of"], org)
                await connection.execute(_SQL["end_organization"], org, now)
        return RemoveOrganizationResult(
            await self.get(org), tuple(ended), tuple(left), tuple(connections), tuple(keys), signing_keys
        )

    async def get(self, org: str) -> OrganizationRecord:
        """Read one organization, removed or not.

        Raises:
            RequestRefused: there is no such organization (`not_found`).
        """
        found = await self.page(org, after=None, ended=True, limit=1)
        if not found:
            raise RequestRefused(
                "there is no such organization within reach",
                code="not_found",
                remedy="List them: slotwire organizations list",
            )
        return found[0]

    async def page(
        self, org: str | None, *, after: str | None, ended: bool, limit: int
    ) -> tuple[OrganizationRecord, ...]:
        """List organizations by identifier.

        Args:
            org: lists this one only; None for all.
            after: lists those after this identifier; None starts at the beginning.
            ended: whether removed ones are listed too.
            limit: the most to return.
        """
        with translated():
            rows = await self.pool.fetch(_SQL["organizations_page"], after, org, ended, limit)
        return tuple(OrganizationRecord(**{**dict(row), "connections": tuple(row["connections"])}) for row in rows)

    async def with_work(self) -> tuple[tuple[str, OrganizationUri], ...]:
        """List organizations with wanted subscriptions or subscriptions that are not ended."""
        with translated():
            rows = await self.pool.fetch(_SQL["organizations_with_work"])
        return tuple((row["org"], row["uri"]) for row in rows)

    async def to_backfill(self) -> tuple[str, ...]:
        """List organizations of which a backfill is due."""
        with translated():
            rows = await self.pool.fetch(_SQL["organizations_to_backfill"])
        return tuple(row["org"] for row in rows)

    async def request_backfill(self, org: str, start_from: datetime) -> None:
        """Note that a backfill of meetings from a time on is due; `slotwire control` runs it soon if nobody did."""
        with translated():
            await self.pool.execute(_SQL["request_backfill"], org, start_from)

    async def run_backfill(
        self,
        org: str,
        calendly: CalendlyTransport,
        report: Callable[[BackfillProgress], None] = lambda _: None,
        *,
        patience: float = PATIENCE_SECONDS,
    ) -> BackfillProgress | None:
        """Run an organization's backfill if one is due; None otherwise. See `backfill.backfill_organization`.

        After a failure, or when nothing writes what was fetched, it stays due and starts again from the beginning: what
        was written already is counted as known.
        """
        with translated():
            row = await self.pool.fetchrow(_SQL["due_backfill"], org)
        if row is None:
            return None
        start_from = row["backfill_from"]
        progress = await backfill_organization(
            *(self.pool, calendly, row["uri"], row["shard"]),
            start_from=start_from,
            clock=self.clock,
            report=report,
            patience=patience,
        )
        if progress.complete:
            with translated():
                await self.pool.execute(_SQL["finish_backfill"], org, start_from)
        return progress

    async def only(self) -> OrganizationRecord:
        """Return the only organization, for a caller that named none.

        Raises:
            RequestRefused: there is none, or more than one (`organization_missing`).
        """
        found = await self.page(None, after=None, ended=False, limit=2)
        if len(found) == 1:
            return found[0]
        raise RequestRefused(
            "there are several organizations" if found else "there is no organization yet",
            code="organization_missing",
            remedy="Name one of those that `slotwire organizations list` shows."
            if found
            else "Add one: slotwire organizations add --token-file FILE",
        )

    async def _end_subscriptions(
        self, organization: OrganizationRecord
    ) -> tuple[list[SubscriptionRecord], list[tuple[SubscriptionRecord, str]]]:
        live = await self.subscriptions.live(organization.org)
        ended: list[SubscriptionRecord] = []
        left: list[tuple[SubscriptionRecord, str]] = []
        if not live:
            return ended, left
        try:
            best = await self.connections.for_organization(organization.org)
            async with self.connections.acting(best) as calendly:
                for item in live:
                    try:
                        ended.append(await self.subscriptions.delete(calendly, item, organization.uri))
                    except CalendlyError as error:
                        left.append((item, error.message))
        except (RequestRefused, CalendlyError, SecretUnreadable) as error:
            done = {item.id for item in (*ended, *(each for each, _ in left))}
            left += [(item, error.message) for item in live if item.id not in done]
        return ended, left


def _with_max_age(before: Sequence[WantedSubscription], max_age_seconds: int | None) -> list[WantedSubscription]:
    if max_age_seconds is None:
        return list(before)
    return [replace(item, max_age_seconds=max_age_seconds) for item in before]


def _wanted_for(events: Sequence[str], identity: Identity, max_age_seconds: int | None) -> list[WantedSubscription]:
    """Ask for each event in the widest scope that has it; events for users only, for the token's user."""
    of_organization, of_user = catalogue.split_events(events)
    wanted = [WantedSubscription(of_organization, max_age_seconds=max_age_seconds)] if of_organization else []
    return wanted + ([WantedSubscription(of_user, "user", identity.user_uri, max_age_seconds)] if of_user else [])


def _require(identity: Identity, events: Sequence[str], *, administrator: bool) -> None:
    """Refuse a token that cannot subscribe to these events, and name everything it lacks at once.

    Claims the token does not make are left to Calendly's answer. The account's plan cannot be asked for.
    """
    problems: list[str] = []
    if administrator and identity.role not in {*ADMINISTRATORS, None}:
        problems.append(f"its user has the role {identity.role!r} where owner or admin is needed")
    lacking = identity.claims.lacks(catalogue.needed_scopes(events))
    if lacking:
        problems.append(f"it lacks the scopes {', '.join(lacking)}")
    if problems:
        raise RequestRefused(
            f"the token cannot subscribe to these events: {'; '.join(problems)}",
            code="token_not_enough",
            remedy="In Calendly, as an owner or admin, create a personal access token (Integrations, API and webhooks)"
            f" with the scopes {', '.join(catalogue.needed_scopes(events))}. Or leave out events.",
        )


def _other_organization() -> RequestRefused:
    return RequestRefused(
        "the token belongs to another organization",
        code="token_of_another_organization",
        remedy="Give a token of an owner or admin of this organization.",
    )
