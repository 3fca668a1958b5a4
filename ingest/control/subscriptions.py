"""The subscription manager: reconciles the wanted subscriptions with Calendly, one per scope and subject.

    creating ──Calendly accepted──▶ active ──deleted, or gone at Calendly──▶ ended
        └──────Calendly refused, or does not have it───────────────────────────▲

Each wanted subscription is a row in Postgres. `plan()` compares those with our subscriptions and with Calendly's;
`reconcile()` carries out the plan, on demand and in every round. Hook and signing key are minted and stored before
Calendly is asked, so every delivery that arrives can be verified. A creation whose answer was lost stays `creating`;
the next pass finds it at Calendly by its address and adopts it, or ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import webhook_subscriptions
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.control.subscription_plan import (
    CalendlySubscription,
    ReconcilePlan,
    SubscriptionRecord,
    WantedSubscription,
    match,
    plan,
)
from slotwire.ingest.control.subscription_records import read_one, subscription_of
from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    ConfigurationError,
    RequestRefused,
)
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.settings_base import LOOPBACK
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.signing_keys import mint_signing_key, signing_key_context
from slotwire.ingest.keys.vault import Vault
from slotwire.schemas.ids import OrganizationUri, last_segment

PASSES = 4
"""Passes of one reconciliation: what one pass creates lets the next delete what it replaces."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_MAY_HAVE_WORKED = frozenset(
    {
        CalendlyProblem.UNREACHABLE,
        CalendlyProblem.UPSTREAM,
        CalendlyProblem.CONFLICT,
        CalendlyProblem.UNEXPECTED,
    }
)


ChangeWatcher: TypeAlias = Callable[[str, str, UUID | str], AbstractAsyncContextManager[object]]
"""Wraps each change at Calendly; called with the action, the organization and the target."""


def unwatched(_what: str, _org: str, _target: UUID | str) -> AbstractAsyncContextManager[object]:
    """Wrap a change in nothing: the caller records it."""
    return nullcontext()


@dataclass(slots=True)
class ReconcileResult:
    """The result of a reconciliation.

    Attributes:
        serving: the subscription that serves each wanted one.
        created: subscriptions that were created at Calendly.
        deleted: subscriptions that were deleted at Calendly, because they are unwanted or replaced.
        orphans: how many were deleted at Calendly that lead here but that we have no key for.
    """

    serving: dict[WantedSubscription, SubscriptionRecord] = field(default_factory=dict)
    created: list[SubscriptionRecord] = field(default_factory=list)
    deleted: list[SubscriptionRecord] = field(default_factory=list)
    orphans: int = 0


@dataclass(frozen=True, slots=True)
class SubscriptionComparison:
    """A subscription as we and as Calendly know it.

    Attributes:
        subscription: ours.
        asked: whether Calendly was asked.
        found: Calendly's; None if it has none or was not asked.
    """

    subscription: SubscriptionRecord
    asked: bool
    found: CalendlySubscription | None


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """The subscription manager. It holds no token: callers pass a transport that does."""

    pool: Pool
    vault: Vault
    hooks: HookAddresses
    clock: Clock
    api_url: str
    changing: ChangeWatcher = unwatched

    @classmethod
    def from_settings(
        cls, settings: Settings, pool: Pool, clock: Clock, *, changing: ChangeWatcher = unwatched
    ) -> Subscriptions:
        """Read the keys it needs.

        Args:
            settings: keys and addresses.
            pool: the database.
            clock: gives the times that are written.
            changing: wraps each change at Calendly.

        Raises:
            ConfigurationError: vault or hook keys are missing or unfit.
        """
        vault, hooks = Vault.from_settings(settings.vault), HookAddresses.from_settings(settings)
        return cls(pool, vault, hooks, clock, settings.calendly.api_url, changing)

    def check_address(self) -> None:
        """Check that Calendly could send to our public address.

        Raises:
            ConfigurationError: `SLOTWIRE_PUBLIC_URL` is not set, or Calendly would refuse it.
        """
        check_callback(self.hooks.url(self.hooks.mint()), self.api_url)

    async def want(self, org: str, want: WantedSubscription) -> None:
        """Store a wanted subscription; it replaces the one wanted for the same scope and subject.

        Raises:
            ConfigurationError: Calendly could not reach us at `SLOTWIRE_PUBLIC_URL`.
        """
        self.check_address()
        arguments = (org, want.scope, want.subject, list(want.events), want.max_age_seconds, self.clock.now())
        with translated():
            await self.pool.execute(_SQL["want"], *arguments)

    async def unwant(self, org: str, scope: str | None = None, subject: str = "") -> None:
        """Delete the wanted subscription of a scope and subject; without a scope, all of an organization."""
        async with borrowed(self.pool) as connection, connection.transaction():
            # A creation takes this lock too: it is either done and can be ended, or it will not start.
            await connection.execute(_SQL["lock_organization"], org)
            await connection.execute(_SQL["unwant"], org, scope, subject)

    async def wanted(self, org: str) -> tuple[WantedSubscription, ...]:
        """Read the wanted subscriptions of an organization."""
        with translated():
            rows = await self.pool.fetch(_SQL["wanted"], org)
        return tuple(
            WantedSubscription(tuple(row["events"]), row["scope"], row["subject"], row["max_age_seconds"])
            for row in rows
        )

    async def reconcile(
        self, calendly: CalendlyTransport, organization: OrganizationUri, *, skip_in_progress: bool = False
    ) -> ReconcileResult:
        """Create, adopt, replace and delete subscriptions until Calendly has what is wanted of an organization.

        Args:
            calendly: a transport of a connection of this organization, pinned and confirmed.
            organization: its URI.
            skip_in_progress: leave alone what another process may be creating now.

        Raises:
            RequestRefused: others kept changing the same subscriptions (`changed_meanwhile`).
            CalendlyError: Calendly refused or failed; what was done stays, and the next reconciliation continues.
        """
        org, result = last_segment(organization), ReconcileResult()
        for _ in range(PASSES):
            wanted, ours = await self.wanted(org), await self.live(org)
            theirs = await self._at_calendly(calendly, organization, [*wanted, *ours])
            steps = plan(wanted, ours, theirs, self.clock.now(), skip_in_progress=skip_in_progress)
            result.serving = steps.serving
            if steps.done:
                return result
            for item, uri in steps.adopt:
                await self._activate(item.id, uri)
            for item in steps.lost:
                await self._end(item)
            await self._delete_surplus(calendly, org, steps, result)
            known = {item.id for item in ours}
            for want in steps.create:
                signing_key = mint_signing_key()
                made = await self._insert(org, want, signing_key, known=known)
                if made is not None:
                    async with self.changing("subscriptions.create", org, made.id):
                        result.created.append(await self._subscribe(calendly, made, organization, signing_key))
        if all(want in result.serving for want in await self.wanted(org)):
            return result
        raise RequestRefused(
            "other creations for this organization were in progress all the time",
            code="changed_meanwhile",
            remedy="Try again in a minute.",
        )

    async def compare_with_calendly(
        self, calendly: CalendlyTransport, organization: OrganizationUri, ours: Sequence[SubscriptionRecord]
    ) -> tuple[SubscriptionComparison, ...]:
        """Compare subscriptions with Calendly's; those of other organizations are returned without asking.

        Raises:
            CalendlyError: Calendly refused or failed.
        """
        asked = last_segment(organization)
        theirs = await self._at_calendly(calendly, organization, [item for item in ours if item.org == asked])
        return tuple(SubscriptionComparison(item, item.org == asked, match(item, theirs)) for item in ours)

    async def delete(
        self, calendly: CalendlyTransport, subscription: SubscriptionRecord, organization: OrganizationUri
    ) -> SubscriptionRecord:
        """End a subscription, at Calendly first, and stop wanting it. Ending an ended one changes nothing.

        Args:
            calendly: a transport of a connection of the subscription's organization, pinned and confirmed.
            subscription: the one to end.
            organization: its organization's URI.

        Raises:
            CalendlyError: Calendly refused or failed; the subscription is unchanged.
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

    async def end_without_calendly(self, subscription: SubscriptionRecord) -> SubscriptionRecord:
        """End a subscription here only. Calendly goes on sending, to an address that soon answers 401."""
        return await self._end(subscription) or await read_one(self.pool, subscription.id, subscription.org)

    async def _delete_surplus(
        self, calendly: CalendlyTransport, org: str, steps: ReconcilePlan, result: ReconcileResult
    ) -> None:
        for item, uri in steps.delete:
            async with self.changing("subscriptions.delete", org, item.id):
                await webhook_subscriptions.delete(calendly, uri)
                await self._end(item)
            result.deleted.append(item)
        for uri, hook_id in steps.orphans:
            with translated():
                known = await self.pool.fetchval(_SQL["hook_is_live"], hook_id)
            if not known:
                async with self.changing("subscriptions.delete", org, uri):
                    await webhook_subscriptions.delete(calendly, uri)
                result.orphans += 1

    async def live(self, org: str) -> tuple[SubscriptionRecord, ...]:
        """Read an organization's subscriptions that are not ended, oldest first."""
        with translated():
            return tuple(map(subscription_of, await self.pool.fetch(_SQL["live_subscriptions"], org)))

    async def _at_calendly(
        self,
        calendly: CalendlyTransport,
        organization: OrganizationUri,
        known: Iterable[WantedSubscription | SubscriptionRecord],
    ) -> tuple[CalendlySubscription, ...]:
        """List Calendly's subscriptions for the whole organization, and for the users and groups known here."""
        places: dict[tuple[Scope, str], None] = {("organization", ""): None}
        places.update({(item.scope, item.subject): None for item in known})
        found = []
        for scope, subject in places:
            async for item in webhook_subscriptions.every(calendly, organization, scope, subject):
                url = item.callback_url.get_secret_value()
                hook_id, here, events = self.hooks.read_url(url), self.hooks.is_here(url), frozenset(item.events)
                state, retrying = item.state, item.retry_started_at
                found.append(CalendlySubscription(item.uri, hook_id, here, state, events, retrying, scope, subject))
        return tuple(found)

    async def _insert(
        self, org: str, want: WantedSubscription, signing_key: str, *, known: Container[UUID]
    ) -> SubscriptionRecord | None:
        """Write the row and its key; None if it is no longer wanted or another creation has begun since `known`."""
        now, subscription_id, key_id, hook_id = self.clock.now(), uuid4(), uuid4(), self.hooks.mint()
        sealed = self.vault.seal(signing_key.encode(), context=signing_key_context(org, subscription_id, key_id))
        async with borrowed(self.pool) as connection, connection.transaction():
            await connection.execute(_SQL["lock_organization"], org)
            wanted_row = (org, want.scope, want.subject, list(want.events), want.max_age_seconds)
            if not await connection.fetchval(_SQL["is_wanted"], *wanted_row):
                return None
            rows = await connection.fetch(_SQL["live_subscriptions"], org)
            place = (want.scope, want.subject)
            if any((row["scope"], row["subject"]) == place and row["id"] not in known for row in rows):
                return None
            arguments = (hook_id, want.scope, want.subject, list(want.events), want.max_age_seconds, now)
            await connection.execute(_SQL["insert_subscription"], subscription_id, org, *arguments, key_id, sealed)
        return SubscriptionRecord(
            subscription_id,
            org,
            hook_id,
            provider_uri=None,
            scope=want.scope,
            events=want.events,
            state="creating",
            max_age_seconds=want.max_age_seconds,
            created_at=now,
            ended_at=None,
            subject=want.subject,
        )

    async def _subscribe(
        self, calendly: CalendlyTransport, made: SubscriptionRecord, uri: OrganizationUri, signing_key: str
    ) -> SubscriptionRecord:
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
            raise RequestRefused("the subscription was ended while it was being created", code="changed_meanwhile")
        return active

    async def _activate(self, subscription_id: UUID, provider_uri: str) -> SubscriptionRecord | None:
        with translated():
            row = await self.pool.fetchrow(_SQL["activate_subscription"], subscription_id, provider_uri)
        return None if row is None else subscription_of(row)

    async def _end(self, seen: SubscriptionRecord) -> SubscriptionRecord | None:
        with translated():
            row = await self.pool.fetchrow(_SQL["end_subscription"], seen.id, seen.state, self.clock.now())
        return None if row is None else subscription_of(row)


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
