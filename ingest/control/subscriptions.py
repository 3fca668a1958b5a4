"""The subscription manager: makes what is wanted of Calendly so, one subscription a scope and subject.

    creating ──Calendly said yes──▶ active ──deleted, or gone at Calendly──▶ ended
        └──────Calendly said no, or never heard of it──────────────────────────▲

What is wanted is a row in Postgres; `plan()` compares it with what we know and with what Calendly has, `apply()`
does what follows, on demand and again and again. Hook and signing key are minted and stored before Calendly is
asked, so that no delivery can come that we cannot check. A creation whose answer was lost stays `creating`; the
next pass finds it at Calendly by its address and adopts it, or ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import webhook_subscriptions
from slotwire.ingest.control.calendly_client.transport import Transport
from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.control.subscription_plan import AtCalendly, Plan, Subscription, Wanted, match, plan
from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    ConfigurationError,
    RequestRefused,
)
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import LOOPBACK, Settings
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.signing_keys import mint_signing_key, signing_key_context
from slotwire.ingest.keys.vault import Vault
from slotwire.schemas.ids import OrganizationUri, last_segment

if TYPE_CHECKING:
    import asyncpg

PASSES = 4
"""Passes of one application: what one makes lets the next drop what it replaces."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_MAY_HAVE_WORKED = frozenset(
    {
        CalendlyProblem.UNREACHABLE,
        CalendlyProblem.UPSTREAM,
        CalendlyProblem.CONFLICT,
        CalendlyProblem.UNEXPECTED,
    }
)


Changing: TypeAlias = Callable[[str, str, UUID | str], AbstractAsyncContextManager[object]]
"""Wraps each change at Calendly: told what is done, to which organization, and to what."""


def unwatched(_what: str, _org: str, _target: UUID | str) -> AbstractAsyncContextManager[object]:
    """Wrap a change in nothing: whoever asked for it has noted it."""
    return nullcontext()


@dataclass(slots=True)
class Applied:
    """What an application did.

    Attributes:
        serving: what does what is wanted now, by it.
        made: subscriptions that are new at Calendly.
        dropped: subscriptions that were deleted at Calendly, because nobody wants them or another does it.
        orphans: how many were deleted at Calendly that led here and that we had no key for.
    """

    serving: dict[Wanted, Subscription] = field(default_factory=dict)
    made: list[Subscription] = field(default_factory=list)
    dropped: list[Subscription] = field(default_factory=list)
    orphans: int = 0


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
    changing: Changing = unwatched

    @classmethod
    def from_settings(
        cls, settings: Settings, pool: Pool, clock: Clock, *, changing: Changing = unwatched
    ) -> Subscriptions:
        """Read the keys it needs.

        Args:
            settings: keys and addresses.
            pool: the database.
            clock: for what is written.
            changing: wraps each change at Calendly.

        Raises:
            ConfigurationError: vault or hook keys are missing or unfit.
        """
        vault, hooks = Vault.from_settings(settings.vault), HookAddresses.from_settings(settings)
        return cls(pool, vault, hooks, clock, settings.calendly.api_url, changing)

    def check_address(self) -> None:
        """See whether Calendly could send to us at all.

        Raises:
            ConfigurationError: `SLOTWIRE_PUBLIC_URL` is not set, or Calendly would refuse it.
        """
        check_callback(self.hooks.url(self.hooks.mint()), self.api_url)

    async def want(self, org: str, wish: Wanted) -> None:
        """Write what is wanted in its scope and subject, instead of what was wanted there before.

        Raises:
            ConfigurationError: Calendly could not reach us at `SLOTWIRE_PUBLIC_URL`.
        """
        self.check_address()
        arguments = (org, wish.scope, wish.subject, list(wish.events), wish.max_age_seconds, self.clock.now())
        with translated():
            await self.pool.execute(_SQL["want"], *arguments)

    async def unwant(self, org: str, scope: str | None = None, subject: str = "") -> None:
        """No longer want anything in a scope and subject; without a scope, nothing at all of an organization."""
        with translated():
            async with self.pool.acquire() as connection, connection.transaction():
                # Who makes a subscription holds this too: afterwards it is there to be ended, or it is not made.
                await connection.execute(_SQL["lock_organization"], org)
                await connection.execute(_SQL["unwant"], org, scope, subject)

    async def wanted(self, org: str) -> tuple[Wanted, ...]:
        """Read what is wanted of an organization."""
        with translated():
            rows = await self.pool.fetch(_SQL["wanted"], org)
        return tuple(Wanted(tuple(row["events"]), row["scope"], row["subject"], row["max_age_seconds"]) for row in rows)

    async def apply(self, calendly: Transport, organization: OrganizationUri, *, patient: bool = False) -> Applied:
        """Make what is wanted of an organization so.

        Args:
            calendly: calls of a connection of this organization that is pinned and confirmed.
            organization: its URI.
            patient: leave what somebody may be making at this moment to them.

        Raises:
            RequestRefused: others changed the same all the time.
            CalendlyError: Calendly refused or failed; what was done stays done, and the next application goes on.
        """
        org, applied = last_segment(organization), Applied()
        for _ in range(PASSES):
            wanted, ours = await self.wanted(org), await self.live(org)
            theirs = await self._at_calendly(calendly, organization, [*wanted, *ours])
            todo = plan(wanted, ours, theirs, self.clock.now(), patient=patient)
            applied.serving = todo.serving
            if todo.done:
                return applied
            for item, uri in todo.adopt:
                await self._activate(item.id, uri)
            for item in todo.lost:
                await self._end(item)
            await self._drop(calendly, org, todo, applied)
            known = {item.id for item in ours}
            for wish in todo.make:
                signing_key = mint_signing_key()
                made = await self._insert(org, wish, signing_key, known=known)
                if made is not None:
                    async with self.changing("subscriptions.create", org, made.id):
                        applied.made.append(await self._subscribe(calendly, made, organization, signing_key))
        if all(wish in applied.serving for wish in await self.wanted(org)):
            return applied
        raise RequestRefused(
            "other creations for this organization were under way all the time",
            code="changed_meanwhile",
            remedy="Try again in a minute.",
        )

    async def beside_calendly(
        self, calendly: Transport, organization: OrganizationUri, ours: Sequence[Subscription]
    ) -> tuple[Listed, ...]:
        """Put what Calendly says beside subscriptions of one organization; those of others are left unasked.

        Raises:
            CalendlyError: Calendly refused or failed.
        """
        asked = last_segment(organization)
        theirs = await self._at_calendly(calendly, organization, [item for item in ours if item.org == asked])
        return tuple(Listed(item, item.org == asked, match(item, theirs)) for item in ours)

    async def delete(
        self, calendly: Transport, subscription: Subscription, organization: OrganizationUri
    ) -> Subscription:
        """End a subscription, at Calendly first. Ending twice is ending once. It is no longer wanted either.

        Args:
            calendly: calls of a connection of the subscription's organization, pinned and confirmed.
            subscription: which.
            organization: its organization's URI.

        Raises:
            CalendlyError: Calendly refused or failed; the subscription is as it was.
        """
        if subscription.state == "ended":
            return subscription
        provider_uri = subscription.provider_uri
        if provider_uri is None:
            found = match(subscription, await self._at_calendly(calendly, organization, [subscription]))
            provider_uri = None if found is None else found.uri
        await self.unwant(subscription.org, subscription.scope, subscription.subject)
        if provider_uri is not None:
            await webhook_subscriptions.delete(calendly, provider_uri)
        return await self._end(subscription) or await read_one(self.pool, subscription.id, subscription.org)

    async def give_up(self, subscription: Subscription) -> Subscription:
        """End a subscription here without Calendly, which goes on sending to an address that answers 401 then."""
        return await self._end(subscription) or await read_one(self.pool, subscription.id, subscription.org)

    async def _drop(self, calendly: Transport, org: str, todo: Plan, applied: Applied) -> None:
        for item, uri in todo.drop:
            async with self.changing("subscriptions.delete", org, item.id):
                await webhook_subscriptions.delete(calendly, uri)
                await self._end(item)
            applied.dropped.append(item)
        for uri, hook_id in todo.orphans:
            with translated():
                known = await self.pool.fetchval(_SQL["hook_is_live"], hook_id)
            if not known:
                async with self.changing("subscriptions.delete", org, uri):
                    await webhook_subscriptions.delete(calendly, uri)
                applied.orphans += 1

    async def live(self, org: str) -> tuple[Subscription, ...]:
        """Read what is not ended of an organization, oldest first."""
        with translated():
            return tuple(map(_read, await self.pool.fetch(_SQL["live_subscriptions"], org)))

    async def _at_calendly(
        self, calendly: Transport, organization: OrganizationUri, known: Iterable[Wanted | Subscription]
    ) -> tuple[AtCalendly, ...]:
        """List what Calendly has for the whole organization, and for the users and groups that are known here."""
        places: dict[tuple[Scope, str], None] = {("organization", ""): None}
        places.update({(item.scope, item.subject): None for item in known})
        found = []
        for scope, subject in places:
            async for item in webhook_subscriptions.every(calendly, organization, scope, subject):
                url = item.callback_url.get_secret_value()
                hook_id, here, events = self.hooks.read_url(url), self.hooks.is_here(url), frozenset(item.events)
                state, retrying = item.state, item.retry_started_at
                found.append(AtCalendly(item.uri, hook_id, here, state, events, retrying, scope, subject))
        return tuple(found)

    async def _insert(self, org: str, wish: Wanted, signing_key: str, *, known: Container[UUID]) -> Subscription | None:
        """Write the row and its key, unless the wish is gone or somebody has begun one in its place since we looked."""
        now, subscription_id, key_id, hook_id = self.clock.now(), uuid4(), uuid4(), self.hooks.mint()
        sealed = self.vault.seal(signing_key.encode(), context=signing_key_context(org, subscription_id, key_id))
        with translated():
            async with self.pool.acquire() as connection, connection.transaction():
                await connection.execute(_SQL["lock_organization"], org)
                stands = (org, wish.scope, wish.subject, list(wish.events), wish.max_age_seconds)
                if not await connection.fetchval(_SQL["is_wanted"], *stands):
                    return None
                rows = await connection.fetch(_SQL["live_subscriptions"], org)
                place = (wish.scope, wish.subject)
                if any((row["scope"], row["subject"]) == place and row["id"] not in known for row in rows):
                    return None
                arguments = (hook_id, wish.scope, wish.subject, list(wish.events), wish.max_age_seconds, now)
                await connection.execute(_SQL["insert_subscription"], subscription_id, org, *arguments, key_id, sealed)
        return Subscription(
            subscription_id,
            org,
            hook_id,
            provider_uri=None,
            scope=wish.scope,
            events=wish.events,
            state="creating",
            max_age_seconds=wish.max_age_seconds,
            created_at=now,
            ended_at=None,
            subject=wish.subject,
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
                scope=made.scope,
                subject=made.subject,
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


def _read(row: asyncpg.Record) -> Subscription:
    values = dict(row)
    return Subscription(**{**values, "events": tuple(values["events"])})
