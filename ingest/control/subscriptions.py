"""The subscription manager: creates, lists and deletes webhook subscriptions at Calendly.

    creating ──Calendly said yes──▶ active ──deleted, or gone at Calendly──▶ ended
        └──────Calendly said no, or never heard of it──────────────────────────▲

Hook and signing key are minted and stored before Calendly is asked, so that no delivery can come that we
cannot check. A creation whose answer was lost stays `creating`; the next one finds it at Calendly by its
address and adopts it, or ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pydantic import SecretStr

from ingest.control.calendly_client import users, webhook_subscriptions
from ingest.control.calendly_client.transport import Transport
from ingest.control.catalogue import checked_events
from ingest.control.hooks import HookAddresses
from ingest.control.signing_keys import mint_signing_key, signing_key_context
from ingest.control.subscription_plan import AtCalendly, Subscription, match, plan_creation
from ingest.control.vault import Vault
from ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    ConfigurationError,
    RequestRefused,
    RowRefused,
    SchemaMismatch,
)
from ingest.foundation.clock import Clock
from ingest.foundation.postgres import Pool, read_queries, translated
from ingest.foundation.settings import LOOPBACK, Settings
from schemas.ids import OrganizationUri, last_segment, shard_of

if TYPE_CHECKING:
    import asyncpg

PLANS = 3
"""How often a creation looks again when another one changed what it had seen."""
MAX_EXTERNAL_ID = 200
"""Characters of the user's own name for an organization."""

_SQL = read_queries("ingest.sql", "control.sql")
_MAY_HAVE_WORKED = frozenset(
    {
        CalendlyProblem.UNREACHABLE,
        CalendlyProblem.UPSTREAM,
        CalendlyProblem.CONFLICT,
        CalendlyProblem.UNEXPECTED,
    }
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a creation is asked for.

    Attributes:
        events: names as Calendly writes them; empty for all that this version publishes.
        org: the organization the caller means; None takes whichever the token belongs to.
        external_id: the user's own name for the organization.
        max_age_seconds: quarantine older authentic deliveries; None takes any age.
        another: make a further one beside one that already does what is wanted.
    """

    events: tuple[str, ...] = ()
    org: str | None = None
    external_id: str | None = None
    max_age_seconds: int | None = None
    another: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """A creation's result.

    Attributes:
        subscription: what there is now.
        new: False when it was there already.
    """

    subscription: Subscription
    new: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A subscription beside what Calendly says of it.

    Attributes:
        subscription: as we know it.
        asked: whether Calendly was asked.
        found: what Calendly has; None when it has none or was not asked.
    """

    subscription: Subscription
    asked: bool
    found: AtCalendly | None


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """The manager. Holds no token: each call gets a connection to Calendly that has one."""

    pool: Pool
    vault: Vault
    hooks: HookAddresses
    clock: Clock
    api_url: str

    @classmethod
    def from_settings(cls, settings: Settings, pool: Pool, clock: Clock) -> Subscriptions:
        """Read the keys it needs.

        Raises:
            ConfigurationError: vault or hook keys are missing or unfit.
        """
        vault, hooks = Vault.from_settings(settings.vault), HookAddresses.from_settings(settings)
        return cls(pool, vault, hooks, clock, settings.calendly.api_url)

    async def create(self, calendly: Transport, wanted: Wanted) -> Created:
        """Subscribe the token's organization, or find that it is.

        Raises:
            RequestRefused: the events do not fit, or the token belongs to another organization.
            ConfigurationError: Calendly could not reach us at `SLOTWIRE_PUBLIC_URL`.
            CalendlyError: Calendly refused or failed. What may have worked is found by the next creation.
        """
        events = checked_events(wanted.events)
        check_callback(self.hooks.url(self.hooks.mint()), self.api_url)
        user = await users.me(calendly)
        uri = user.current_organization
        org = last_segment(uri)
        if wanted.org is not None and wanted.org != org:
            raise _other_organization()
        await self._keep_organization(org, uri, wanted.external_id)
        for _ in range(PLANS):
            ours = await self._live(org)
            theirs = await self._at_calendly(calendly, uri)
            plan = plan_creation(ours, theirs, events, self.clock.now())
            adopted = {item.id: await self._activate(item.id, found) for item, found in plan.adopt}
            for item in plan.lost:
                await self._end(item)
            if plan.existing is not None and not wanted.another:
                return Created(adopted.get(plan.existing.id) or plan.existing, new=False)
            signing_key = mint_signing_key()
            seen = await self._live(org) if plan.adopt or plan.lost else ours
            made = await self._insert(org, events, wanted.max_age_seconds, signing_key, seen=seen)
            if made is not None:
                return Created(await self._subscribe(calendly, made, uri, signing_key), new=True)
        raise RequestRefused(
            "other creations for this organization were under way all the time",
            code="changed_meanwhile",
            remedy="Try again in a minute.",
        )

    async def beside_calendly(self, calendly: Transport, ours: Sequence[Subscription]) -> tuple[Listed, ...]:
        """Put what Calendly says beside subscriptions of the token's organization; others are left unasked.

        Raises:
            CalendlyError: Calendly refused or failed.
        """
        uri = (await users.me(calendly)).current_organization
        theirs = await self._at_calendly(calendly, uri)
        asked = last_segment(uri)
        return tuple(Listed(item, item.org == asked, match(item, theirs)) for item in ours)

    async def delete(self, calendly: Transport, subscription_id: UUID, org: str | None) -> Subscription:
        """End a subscription, at Calendly first. Ending twice is ending once.

        Raises:
            RequestRefused: there is no such subscription within reach, or the token is another organization's.
            CalendlyError: Calendly refused or failed; the subscription is as it was.
        """
        subscription = await read_one(self.pool, subscription_id, org)
        if subscription.state == "ended":
            return subscription
        uri = (await users.me(calendly)).current_organization
        # A token of another organization would get a 404, and that would look like a deletion.
        if last_segment(uri) != subscription.org:
            raise _other_organization()
        provider_uri = subscription.provider_uri
        if provider_uri is None:
            found = match(subscription, await self._at_calendly(calendly, uri))
            provider_uri = None if found is None else found.uri
        if provider_uri is not None:
            await webhook_subscriptions.delete(calendly, provider_uri)
        return await self._end(subscription) or await read_one(self.pool, subscription_id, org)

    async def _keep_organization(self, org: str, uri: OrganizationUri, external_id: str | None) -> None:
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

    async def _live(self, org: str) -> tuple[Subscription, ...]:
        with translated():
            return tuple(map(_read, await self.pool.fetch(_SQL["live_subscriptions"], org)))

    async def _at_calendly(self, calendly: Transport, uri: OrganizationUri) -> tuple[AtCalendly, ...]:
        found = []
        async for item in webhook_subscriptions.of_organization(calendly, uri):
            url = item.callback_url.get_secret_value()
            hook_id = self.hooks.read_url(url)
            here = self.hooks.is_here(url)
            events = frozenset(item.events)
            found.append(AtCalendly(item.uri, hook_id, here, item.state, events, item.retry_started_at))
        return tuple(found)

    async def _insert(
        self,
        org: str,
        events: tuple[str, ...],
        max_age_seconds: int | None,
        signing_key: str,
        *,
        seen: Sequence[Subscription],
    ) -> Subscription | None:
        """Write the row and its key, unless the organization's subscriptions are not those that were seen."""
        now, subscription_id, key_id, hook_id = self.clock.now(), uuid4(), uuid4(), self.hooks.mint()
        sealed = self.vault.seal(signing_key.encode(), context=signing_key_context(org, subscription_id, key_id))
        with translated():
            async with self.pool.acquire() as connection, connection.transaction():
                await connection.execute(_SQL["lock_organization"], org)
                rows = await connection.fetch(_SQL["live_subscriptions"], org)
                if tuple(map(_read, rows)) != tuple(seen):
                    return None
                await connection.execute(
                    _SQL["insert_subscription"],
                    subscription_id,
                    org,
                    hook_id,
                    list(events),
                    max_age_seconds,
                    now,
                    key_id,
                    sealed,
                )
        return Subscription(
            subscription_id, org, hook_id, None, "organization", events, "creating", max_age_seconds, now, None
        )

    async def _subscribe(
        self, calendly: Transport, made: Subscription, uri: OrganizationUri, signing_key: str
    ) -> Subscription:
        try:
            theirs = await webhook_subscriptions.create(
                calendly,
                organization=uri,
                url=self.hooks.url(made.hook_id),
                events=made.events,
                signing_key=SecretStr(signing_key),
            )
        except CalendlyError as error:
            if error.problem not in _MAY_HAVE_WORKED:
                await self._end(made)
            raise
        active = await self._activate(made.id, theirs.uri)
        if active is None:
            await webhook_subscriptions.delete(calendly, theirs.uri)
            raise RequestRefused("somebody ended the subscription while it was made", code="changed_meanwhile")
        return active

    async def _activate(self, subscription_id: UUID, provider_uri: str) -> Subscription | None:
        with translated():
            row = await self.pool.fetchrow(_SQL["activate_subscription"], subscription_id, provider_uri)
        return None if row is None else _read(row)

    async def _end(self, seen: Subscription) -> Subscription | None:
        with translated():
            row = await self.pool.fetchrow(_SQL["end_subscription"], seen.id, seen.state, self.clock.now())
        return None if row is None else _read(row)


async def read_page(
    pool: Pool, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int
) -> tuple[Subscription, ...]:
    """List subscriptions as we know them, oldest first, ended ones too; of one organization, or all."""
    time, last = after or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["subscriptions_page"], org, time, last, limit)
    return tuple(map(_read, rows))


async def read_one(pool: Pool, subscription_id: UUID, org: str | None) -> Subscription:
    """Read one subscription of an organization, or of any.

    Raises:
        RequestRefused: there is no such subscription within reach.
    """
    with translated():
        row = await pool.fetchrow(_SQL["subscription"], subscription_id, org)
    if row is None:
        raise RequestRefused(
            "there is no such subscription within reach",
            code="not_found",
            remedy="`slotwire subscriptions list` shows what there is.",
        )
    return _read(row)


def check_callback(url: str, api_url: str) -> None:
    """Refuse an address that Calendly would refuse or could not reach.

    Raises:
        ConfigurationError: it is not https; loopback is for a simulator on this machine only.
    """
    address, api = urlsplit(url), urlsplit(api_url)
    if address.scheme == "https" or (address.hostname in LOOPBACK and api.hostname in LOOPBACK):
        return
    raise ConfigurationError(
        "Calendly sends to https addresses only, and SLOTWIRE_PUBLIC_URL is not one",
        remedy="Set SLOTWIRE_PUBLIC_URL to the https address under which Calendly reaches `slotwire serve`.",
    )


def _other_organization() -> RequestRefused:
    return RequestRefused(
        "the token belongs to another organization",
        code="token_of_another_organization",
        remedy="Give a token of an owner or admin of this organization.",
    )


def _read(row: asyncpg.Record) -> Subscription:
    values = dict(row)
    return Subscription(**{**values, "events": tuple(values["events"])})
