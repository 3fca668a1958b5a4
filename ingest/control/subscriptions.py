"""The subscription manager: reconciles the wanted subscriptions with Calendly, one per scope and subject.

Each wanted subscription is a row in Postgres. `plan()` compares those with our subscriptions and with Calendly's;
`reconcile()` carries out the plan, on demand and in every round, under the organization's claim. Each step is written
before it is taken, or found again by the next comparison: a creation whose answer was lost stays `creating`, and is
found at Calendly by its address; a deletion is noted before it begins. So whoever is cut off anywhere is followed by
somebody who goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from urllib.parse import urlsplit

from slotwire.ingest.control.activity import count_webhooks
from slotwire.ingest.control.calendly_client import webhook_subscriptions
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.claims import OrganizationClaim, claimed, keep
from slotwire.ingest.control.event_families import refusal_of
from slotwire.ingest.control.holes import HoleCause
from slotwire.ingest.control.round_records import hurry
from slotwire.ingest.control.subscription_calls import (
    ChangeWatcher,
    SubscriptionChanges,
    list_subscriptions,
    unwatched,
)
from slotwire.ingest.control.subscription_facts import (
    OVERLAP,
    CalendlySubscription,
    Circumstances,
    Place,
    SubscriptionRecord,
    WantedSubscription,
    match,
)
from slotwire.ingest.control.subscription_findings import SubscriptionFinding
from slotwire.ingest.control.subscription_plan import Creation, ReconcilePlan, plan
from slotwire.ingest.control.subscription_records import read_one
from slotwire.ingest.control.subscription_store import SubscriptionStore
from slotwire.ingest.errors import CalendlyError, ConfigurationError, RequestRefused
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.settings_base import LOOPBACK
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.vault import Vault
from slotwire.schemas.ids import OrganizationUri, last_segment

PASSES = 8
"""Passes of one reconciliation: what one pass does lets the next see what follows from it."""

_SQL = read_queries("slotwire.ingest.sql", "control.sql")
_ROUNDS = read_queries("slotwire.ingest.sql", "subscriptions.sql")


@dataclass(slots=True)
class ReconcileResult:
    """The result of a reconciliation.

    Attributes:
        serving: the subscription that serves each wanted one.
        created: subscriptions that were created at Calendly.
        deleted: subscriptions that were deleted at Calendly, because they are unwanted or replaced.
        orphans: how many were deleted at Calendly that lead here but that we have no key for.
        noticed: what was wrong before anything was done.
        findings: what is left.
        refused: wanted places for which Calendly refused to make a subscription, with its answer.
        creators: users who created the organization's subscriptions, as Calendly lists them.
    """

    serving: dict[WantedSubscription, SubscriptionRecord] = field(default_factory=dict)
    created: list[SubscriptionRecord] = field(default_factory=list)
    deleted: list[SubscriptionRecord] = field(default_factory=list)
    orphans: int = 0
    noticed: tuple[SubscriptionFinding, ...] | None = None
    findings: tuple[SubscriptionFinding, ...] = ()
    refused: dict[Place, CalendlyError] = field(default_factory=dict)
    creators: frozenset[str] = frozenset()


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
    overlap: timedelta = OVERLAP

    @property
    def store(self) -> SubscriptionStore:
        """The rows."""
        return SubscriptionStore(self.pool, self.vault, self.hooks, self.clock)

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
        overlap = timedelta(hours=settings.subscriptions.overlap_hours)
        return cls(pool, vault, hooks, clock, settings.calendly.api_url, changing, overlap)

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

    async def resume(self, org: str) -> int:
        """Make subscriptions again that were gone again and again; return of how many wanted ones."""
        with translated():
            rows = await self.pool.fetch(_ROUNDS["resume_places"], org, self.clock.now())
        await hurry(self.pool, org)
        return len(rows)

    async def wanted(self, org: str) -> tuple[WantedSubscription, ...]:
        """Read the wanted subscriptions of an organization."""
        return await self.store.wanted(org)

    async def live(self, org: str) -> tuple[SubscriptionRecord, ...]:
        """Read an organization's subscriptions that are not ended, oldest first."""
        return await self.store.live(org)

    async def reconcile(
        self, calendly: CalendlyTransport, organization: OrganizationUri, *, skip_in_progress: bool = False
    ) -> ReconcileResult:
        """Create, adopt, replace and delete subscriptions until Calendly has what is wanted of an organization.

        Args:
            calendly: a transport of a connection of this organization, pinned and confirmed.
            organization: its URI.
            skip_in_progress: leave alone what another process may be creating now.

        Raises:
            RequestRefused: others kept changing the same subscriptions (`changed_meanwhile`), or nothing more is made
                for one that was gone again and again (`contested`).
            CalendlyError: Calendly refused or failed; what was done stays, and the next reconciliation continues.
        """
        async with claimed(self.pool, self.clock, last_segment(organization)) as claim:
            result = await self.round(calendly, organization, claim, patient=not skip_in_progress)
        for error in result.refused.values():
            raise error
        return result

    async def round(
        self,
        calendly: CalendlyTransport,
        organization: OrganizationUri,
        claim: OrganizationClaim,
        *,
        places: Collection[Place] | None = None,
        patient: bool = False,
    ) -> ReconcileResult:
        """Reconcile under a claim that the caller holds. What Calendly refuses to make is part of the result.

        Args:
            calendly: as for `reconcile`.
            organization: its URI.
            claim: the organization's.
            places: those to look at; None for all.
            patient: somebody waits for what is made: make it though another process may be making it, and do not make
                less than what is wanted the first time.

        Raises:
            RequestRefused: another process has taken the claim, or changed the same subscriptions all the time.
            CalendlyError: Calendly failed; what was done stays.
        """
        result = ReconcileResult()
        for _ in range(PASSES):
            wanted, ours, known = await self._read(claim.org, places)
            theirs = await list_subscriptions(self.hooks, calendly, organization, [*wanted, *ours], places)
            steps = plan(wanted, ours, theirs, self.clock.now(), skip_in_progress=not patient, known=known)
            steps = replace(steps, create=tuple(each for each in steps.create if each.want.place not in result.refused))
            result.serving, result.findings = steps.serving, steps.findings
            result.noticed = steps.findings if result.noticed is None else result.noticed
            result.creators |= {each.creator for each in theirs if each.creator and each.hook_id}
            await self._note_contested(known)
            if steps.done:
                return result
            await keep(self.pool, self.clock, claim)
            await self._note(organization, claim, steps, known)
            calls = SubscriptionChanges(self.store, self.changing, calendly, organization, claim)
            for item, uri in steps.delete:
                await calls.delete(item, uri)
                result.deleted.append(item)
            for uri, hook_id in steps.orphans:
                result.orphans += await calls.delete_stray(uri, hook_id)
            for creation in steps.create:
                await _make(calls, creation, ours, result, patient=patient)
        raise RequestRefused(
            "other creations for this organization were in progress all the time",
            code="changed_meanwhile",
            remedy="Try again in a minute.",
        )

    async def check(
        self, calendly: CalendlyTransport, organization: OrganizationUri
    ) -> tuple[SubscriptionFinding, ...]:
        """Compare an organization's subscriptions with Calendly's, and change nothing.

        Raises:
            CalendlyError: Calendly refused or failed.
        """
        wanted, ours, known = await self._read(last_segment(organization), None)
        theirs = await list_subscriptions(self.hooks, calendly, organization, [*wanted, *ours])
        return plan(wanted, ours, theirs, self.clock.now(), skip_in_progress=True, known=known).findings

    async def compare_with_calendly(
        self, calendly: CalendlyTransport, organization: OrganizationUri, ours: Sequence[SubscriptionRecord]
    ) -> tuple[SubscriptionComparison, ...]:
        """Compare subscriptions with Calendly's; those of other organizations are returned without asking.

        Raises:
            CalendlyError: Calendly refused or failed.
        """
        asked = last_segment(organization)
        theirs = await list_subscriptions(
            self.hooks, calendly, organization, [item for item in ours if item.org == asked]
        )
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
        async with claimed(self.pool, self.clock, subscription.org) as claim:
            provider_uri = subscription.provider_uri
            if provider_uri is None:
                found = match(
                    subscription, await list_subscriptions(self.hooks, calendly, organization, [subscription])
                )
                provider_uri = None if found is None else found.uri
            await self.unwant(subscription.org, subscription.scope, subscription.subject)
            if provider_uri is not None:
                await self.store.begin_deletion(claim, subscription)
                await webhook_subscriptions.delete(calendly, provider_uri)
            return await self._ended(claim, subscription)

    async def end_without_calendly(self, subscription: SubscriptionRecord) -> SubscriptionRecord:
        """End a subscription here only. Calendly goes on sending, to an address that soon answers 401."""
        async with claimed(self.pool, self.clock, subscription.org) as claim:
            return await self._ended(claim, subscription)

    async def _ended(self, claim: OrganizationClaim, subscription: SubscriptionRecord) -> SubscriptionRecord:
        ended = await self.store.end(claim, subscription)
        return ended or await read_one(self.pool, subscription.id, subscription.org)

    async def _read(
        self, org: str, places: Collection[Place] | None
    ) -> tuple[tuple[WantedSubscription, ...], tuple[SubscriptionRecord, ...], Circumstances]:
        """Read what is compared; where a replacement waits for its first delivery, deliveries are counted before."""
        wanted, ours = await self.store.wanted(org), await self.store.live(org)
        here = [item.place for item in ours]
        if any(item.first_delivery_at is None and here.count(item.place) > 1 for item in ours):
            await count_webhooks(self.pool)
            ours = await self.store.live(org)
        if places is not None:
            wanted = tuple(item for item in wanted if item.place in places)
            ours = tuple(item for item in ours if item.place in places)
        return wanted, ours, await self.store.circumstances(org, self.overlap)

    async def _note_contested(self, known: Circumstances) -> None:
        """Keep the holes of places open in which nothing is made: what comes meanwhile is fetched again and again."""
        for item in known.unrestored:
            if known.of(item.place).contested_at is not None:
                await self.store.note_hole(item, HoleCause.SUBSCRIPTION_GONE, item.retrying_since, known.well_at)

    async def _note(
        self, organization: OrganizationUri, claim: OrganizationClaim, steps: ReconcilePlan, known: Circumstances
    ) -> None:
        """Write what the comparison shows: nothing is done at Calendly."""
        for item, uri in steps.adopt:
            await self.store.activate(claim, item, uri)
        for item in steps.lost:
            await self.store.end(claim, item)
        for item, since in steps.retries:  # also when they end: what failed for a day was dropped
            await self.store.note_hole(item, HoleCause.RETRYING, since or item.retrying_since, known.well_at)
            await self.store.note_retrying(claim, item, since)
        for item, since in steps.disabled:
            async with self.changing("subscriptions.disabled", claim.org, item.id):
                await self.store.note_hole(item, HoleCause.SUBSCRIPTION_DISABLED, since, known.well_at)
                await self.store.lose(claim, item, organization, "disabled", since)
        for item in steps.gone:
            async with self.changing("subscriptions.disabled", claim.org, item.id):
                await self.store.note_hole(item, HoleCause.SUBSCRIPTION_GONE, item.retrying_since, known.well_at)
                await self.store.lose(claim, item, organization, "gone", item.retrying_since)
        for place in steps.contest:
            async with self.changing("subscriptions.contested", claim.org, claim.org):
                await self.store.contest(claim, place)
        for lost, by in steps.restored:
            missing = tuple(event for event in known.of(by.place).refused if event not in by.events)
            async with self.changing("subscriptions.restored", claim.org, lost.id):
                await self.store.restore(claim, lost, by, organization, missing)


async def _make(
    calls: SubscriptionChanges,
    creation: Creation,
    ours: Sequence[SubscriptionRecord],
    result: ReconcileResult,
    *,
    patient: bool,
) -> None:
    """Make a subscription. Of one that takes a place, and in rounds, what Calendly refuses is left out."""
    try:
        made = await calls.create(creation, ours)
    except CalendlyError as error:
        if refusal_of(error) is None:
            raise
        less = creation.replaces is not None or not patient
        created = await calls.create_allowed(creation, ours, error) if less else None
        if created is None:
            result.refused[creation.want.place] = error
        result.created += created or ()
    else:
        result.created += () if made is None else (made,)


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
