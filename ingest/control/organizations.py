"""Organizations: from a token to live events in one step, and back again.

Adding checks first and says everything that is missing at once; then it keeps the organization, the connection
and what is wanted, and lets the subscription manager make it so. Each step can be repeated: adding twice is
adding once. Removing ends the subscriptions at Calendly before it forgets the credential that could.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import SecretStr

from slotwire.ingest.control import catalogue
from slotwire.ingest.control.backfill import Filled, fill
from slotwire.ingest.control.calendly_client.transport import RetryPolicy, Transport
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connections import Connections, Identity
from slotwire.ingest.control.subscription_plan import Subscription, Wanted
from slotwire.ingest.control.subscriptions import Applied, Changing, Subscriptions, unwatched
from slotwire.ingest.errors import CalendlyError, RequestRefused, RowRefused, SchemaMismatch, SecretUnreadable
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.receive.verify import Tenant
from slotwire.schemas.ids import OrganizationUri, shard_of

MAX_EXTERNAL_ID = 200
"""Characters of the user's own name for an organization."""
ADMINISTRATORS = frozenset({"owner", "admin"})
"""Roles whose token may subscribe a whole organization."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_NO_SUBSCRIPTION = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization as it is kept.

    Attributes:
        org: the last segment of its URI.
        uri: at Calendly.
        external_id: the user's own name for it.
        created_at: when it was first known here.
        ended_at: when it was given up; None while it is kept.
        backfill_from: meetings that start then or later are still to be fetched; None when nothing is.
        subscriptions: how many are not ended.
        connections: the states of its connections.
    """

    org: str
    uri: OrganizationUri
    external_id: str | None
    created_at: datetime
    ended_at: datetime | None
    backfill_from: datetime | None
    subscriptions: int
    connections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """What adding an organization did.

    Attributes:
        organization: as it is now.
        connection: of the token's user.
        applied: what became of the subscriptions.
    """

    organization: Organization
    connection: ConnectionRecord
    applied: Applied


@dataclass(frozen=True, slots=True)
class Given:
    """What giving an organization up did.

    Attributes:
        organization: as it is now; `ended_at` is None while something is left.
        ended: subscriptions that were ended at Calendly and here.
        left: subscriptions that Calendly may still have, each with why.
        connections: credentials that were forgotten.
        keys: keys of the management API that were revoked, because they reached nothing else.
    """

    organization: Organization
    ended: tuple[Subscription, ...]
    left: tuple[tuple[Subscription, str], ...]
    connections: tuple[UUID, ...]
    keys: tuple[UUID, ...]


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
        *,
        retries: RetryPolicy | None = None,
        changing: Changing = unwatched,
    ) -> Self:
        """Read the keys it needs.

        Args:
            settings: keys and addresses.
            pool: the database.
            clock: for what is written.
            retries: of calls of Calendly.
            changing: wraps each change of subscriptions at Calendly.

        Raises:
            ConfigurationError: vault or hook keys are missing or unfit.
        """
        connections = Connections.from_settings(settings, pool, clock, retries=retries)
        return cls(pool, clock, connections, Subscriptions.from_settings(settings, pool, clock, changing=changing))

    async def add(
        self,
        token: SecretStr,
        *,
        org: str | None = None,
        external_id: str | None = None,
        events: Sequence[str] = (),
        max_age_seconds: int | None = None,
    ) -> Begun:
        """Connect a token's user and subscribe the organization; adding again finds what is there.

        Events that Calendly sends to subscriptions of one user only are subscribed to for the token's user.

        Args:
            token: of an owner or admin of the organization.
            org: the organization the caller means; None takes the token's.
            external_id: the user's own name for it; None keeps the one before.
            events: names as Calendly writes them; empty means what is wanted already, or `catalogue.DEFAULT_EVENTS`.
            max_age_seconds: quarantine older authentic deliveries; None keeps what is wanted already, or any age.

        Raises:
            RequestRefused: something is missing, and nothing was kept: the message says all of it.
            ConfigurationError: Calendly could not reach us at `SLOTWIRE_PUBLIC_URL`; nothing was kept.
            CalendlyError: Calendly refused or failed. Where it refused the subscription, organization and
                connection are kept: adding again, or the manager's next round, goes on from there.
        """
        catalogue.split_events(events)  # what is no event is refused before anybody is asked
        self.subscriptions.check_address()
        identity = await self.connections.identify(token)
        if org is not None and identity.org != org:
            raise _other_organization()
        before = () if events else await self.subscriptions.wanted(identity.org)
        wishes = _kept(before, max_age_seconds) or _wishes(events, identity, max_age_seconds)
        needed = tuple(dict.fromkeys(event for wish in wishes for event in wish.events))
        _require(identity, needed, administrator=any(wish.scope == "organization" for wish in wishes))
        await self._keep(identity.org, identity.organization, external_id)
        added = await self.connections.keep(identity, token)
        for wish in wishes:
            await self.subscriptions.want(identity.org, wish)
        async with self.connections.acting(added.connection) as calendly:
            applied = await self.subscriptions.apply(calendly, identity.organization)
        return Begun(await self.get(identity.org), added.connection, applied)

    async def remove(self, org: str, *, force: bool = False) -> Given:
        """Give an organization up: its subscriptions first, at Calendly, then its credentials. Its history stays.

        What Calendly would not end is left, with its credential, and said; a later removal goes on.

        Args:
            org: which.
            force: forget also what Calendly would not end: it goes on sending, and is answered 401 after 48 h.

        Raises:
            RequestRefused: there is no such organization.
        """
        organization = await self.get(org)
        await self.subscriptions.unwant(org)
        ended, left = await self._end_subscriptions(organization)
        if left and force:
            ended += [await self.subscriptions.give_up(item) for item, _ in left]
        connections: list[UUID] = []
        keys: list[UUID] = []
        if force or not left:
            now = self.clock.now()
            with translated():
                async with self.pool.acquire() as connection, connection.transaction():
                    # Whoever connects a user at this moment comes before, or finds it given up.
                    await connection.execute(_SQL["lock_organization"], org)
                    connections = [row["id"] for row in await connection.fetch(_SQL["forget_connections"], org)]
                    keys = [row["id"] for row in await connection.fetch(_SQL["revoke_keys_of"], org, now)]
                    await connection.execute(_SQL["end_organization"], org, now)
        return Given(await self.get(org), tuple(ended), tuple(left), tuple(connections), tuple(keys))

    async def get(self, org: str) -> Organization:
        """Read one organization, given up or not.

        Raises:
            RequestRefused: there is none.
        """
        found = await self._page(after=None, org=org, ended=True, limit=1)
        if not found:
            raise RequestRefused(
                "there is no such organization within reach",
                code="not_found",
                remedy="`slotwire organizations list` shows what there is.",
            )
        return found[0]

    async def page(self, org: str | None, *, after: str | None, ended: bool, limit: int) -> tuple[Organization, ...]:
        """List organizations by name after a place; one, or all; with or without those given up."""
        return await self._page(after=after, org=org, ended=ended, limit=limit)

    async def with_work(self) -> tuple[tuple[str, OrganizationUri], ...]:
        """List the organizations of which something is wanted, still subscribed, or still to be fetched."""
        with translated():
            rows = await self.pool.fetch(_SQL["organizations_with_work"])
        return tuple((row["org"], row["uri"]) for row in rows)

    async def want_backfill(self, org: str, start_from: datetime) -> None:
        """Note that meetings from a time on are still to be fetched; the manager's next round begins, if nobody did."""
        with translated():
            await self.pool.execute(_SQL["want_backfill"], org, start_from)

    async def fill(
        self, org: str, calendly: Transport, report: Callable[[Filled], None] = lambda _: None
    ) -> Filled | None:
        """Fetch what is still to be fetched of an organization; None when nothing is. See `backfill.fill`.

        A failure leaves it to be fetched, from the beginning: what was written before is found known.
        """
        with translated():
            row = await self.pool.fetchrow(_SQL["backfill_wanted"], org)
        if row is None:
            return None
        tenant = Tenant(row["uri"], org, row["shard"], row["external_id"], _NO_SUBSCRIPTION)
        start_from = row["backfill_from"]
        filled = await fill(self.pool, calendly, tenant, start_from=start_from, clock=self.clock, report=report)
        with translated():
            await self.pool.execute(_SQL["backfill_done"], org, start_from)
        return filled

    async def only(self) -> Organization:
        """Return the one organization there is, for whoever did not name one.

        Raises:
            RequestRefused: there is none, or more than one.
        """
        found = await self._page(after=None, org=None, ended=False, limit=2)
        if len(found) == 1:
            return found[0]
        raise RequestRefused(
            "there are several organizations" if found else "there is no organization yet",
            code="organization_missing",
            remedy="Name one: --organization ORG, as `slotwire organizations list` shows it."
            if found
            else "Add one: slotwire organizations add --token-file FILE",
        )

    async def _page(self, *, after: str | None, org: str | None, ended: bool, limit: int) -> tuple[Organization, ...]:
        with translated():
            rows = await self.pool.fetch(_SQL["organizations_page"], after, org, ended, limit)
        return tuple(Organization(**{**dict(row), "connections": tuple(row["connections"])}) for row in rows)

    async def _keep(self, org: str, uri: OrganizationUri, external_id: str | None) -> None:
        with translated():
            shards = await self.pool.fetchval(_SQL["log_shards"])
        if shards is None:
            raise SchemaMismatch("the log is not made yet", remedy="Run `slotwire migrate`.")
        try:
            with translated():
                row = await self.pool.fetchrow(
                    _SQL["keep_organization"], org, uri, external_id, shard_of(uri, shards), self.clock.now()
                )
        except RowRefused as error:
            raise RequestRefused(
                "the organization cannot be kept: its identifier or external id is not fit or belongs to another one",
                code="organization_refused",
                remedy="Give another external id.",
            ) from error
        if row is None or row["uri"] != uri:
            raise RequestRefused(
                "an organization of this name is known from another Calendly address",
                code="organization_refused",
                remedy="Use a database of its own for each Calendly (or simulator).",
            )

    async def _end_subscriptions(
        self, organization: Organization
    ) -> tuple[list[Subscription], list[tuple[Subscription, str]]]:
        live = await self.subscriptions.live(organization.org)
        ended: list[Subscription] = []
        left: list[tuple[Subscription, str]] = []
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


def _kept(before: Sequence[Wanted], max_age_seconds: int | None) -> list[Wanted]:
    if max_age_seconds is None:
        return list(before)
    return [replace(wish, max_age_seconds=max_age_seconds) for wish in before]


def _wishes(events: Sequence[str], identity: Identity, max_age_seconds: int | None) -> list[Wanted]:
    """Ask for each event in the widest scope that has it; what comes for users only, for the token's user."""
    of_organization, of_user = catalogue.split_events(events)
    wishes = [Wanted(of_organization, max_age_seconds=max_age_seconds)] if of_organization else []
    return wishes + ([Wanted(of_user, "user", identity.user_uri, max_age_seconds)] if of_user else [])


def _require(identity: Identity, events: Sequence[str], *, administrator: bool) -> None:
    """Say everything at once that would keep the events from coming.

    What the token does not say of itself is left to Calendly's answer; its plan nobody can ask for.
    """
    missing: list[str] = []
    if administrator and identity.role not in {*ADMINISTRATORS, None}:
        missing.append(f"its user is {identity.role!r} in the organization; an owner or admin is needed")
    lacking = identity.claims.lacks(catalogue.needed_scopes(events))
    if lacking:
        missing.append(f"it lacks the scopes {', '.join(lacking)}")
    if missing:
        raise RequestRefused(
            f"the token is not enough for these events: {'; and '.join(missing)}",
            code="token_not_enough",
            remedy="In Calendly, as an owner or admin: Integrations, API and webhooks, new personal access token;"
            f" tick {', '.join(catalogue.needed_scopes(events))}. Or leave events out.",
        )


def _other_organization() -> RequestRefused:
    return RequestRefused(
        "the token belongs to another organization",
        code="token_of_another_organization",
        remedy="Give a token of an owner or admin of this organization.",
    )
