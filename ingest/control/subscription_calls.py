"""What the subscription manager does at Calendly: lists, creates and deletes, each change written before it is made.

Hook and signing key are stored before Calendly is asked, so every delivery that arrives can be verified. What plan or
scopes forbid is found by asking for each family of events: a replacement leaves it out, and bookings never wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias
from uuid import UUID

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import webhook_subscriptions
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.control.claims import OrganizationClaim, keep
from slotwire.ingest.control.event_families import FamilyQuestions, refusal_of
from slotwire.ingest.control.subscription_facts import (
    CalendlySubscription,
    Place,
    SubscriptionRecord,
    WantedSubscription,
)
from slotwire.ingest.control.subscription_plan import Creation
from slotwire.ingest.control.subscription_store import SubscriptionStore
from slotwire.ingest.errors import CalendlyError, CalendlyProblem, RequestRefused
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.keys.hooks import HookAddresses, HookId
from slotwire.schemas.ids import OrganizationUri

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


async def list_subscriptions(
    hooks: HookAddresses,
    calendly: CalendlyTransport,
    organization: OrganizationUri,
    known: Iterable[WantedSubscription | SubscriptionRecord],
    only: Collection[Place] | None = None,
) -> tuple[CalendlySubscription, ...]:
    """List Calendly's subscriptions for the whole organization, and for the users and groups known here.

    Args:
        hooks: reads the addresses.
        calendly: a transport of a connection of this organization.
        organization: its URI.
        known: wanted subscriptions and ours.
        only: the places to list, of those; None for all.

    Raises:
        CalendlyError: Calendly refused or failed.
    """
    places: dict[Place, None] = {("organization", ""): None}
    places.update({item.place: None for item in known})
    found: list[CalendlySubscription] = []
    for scope, subject in places:
        if only is not None and (scope, subject) not in only:
            continue
        listed = webhook_subscriptions.every(calendly, organization, scope, subject)
        found += [_listed(hooks, item, scope, subject) async for item in listed]
    return tuple(found)


def _listed(
    hooks: HookAddresses, item: webhook_subscriptions.WebhookSubscriptionResource, scope: Scope, subject: str
) -> CalendlySubscription:
    url = item.callback_url.get_secret_value()
    return CalendlySubscription(
        item.uri,
        hooks.read_url(url),
        hooks.is_here(url),
        item.state,
        frozenset(item.events),
        item.retry_started_at,
        scope,
        subject,
        item.creator,
    )


@dataclass(frozen=True, slots=True)
class SubscriptionChanges:
    """Creates and deletes subscriptions of one organization under its claim.

    Attributes:
        store: the rows.
        changing: wraps each change.
        calendly: a transport of a connection of the organization.
        organization: its URI.
        claim: the right to change its subscriptions.
    """

    store: SubscriptionStore
    changing: ChangeWatcher
    calendly: CalendlyTransport
    organization: OrganizationUri
    claim: OrganizationClaim

    async def delete(self, item: SubscriptionRecord, uri: str) -> None:
        """Delete one of ours.

        Raises:
            OrganizationClaimLost: nothing was deleted.
        """
        async with self.changing("subscriptions.delete", self.claim.org, item.id):
            await self.store.begin_deletion(self.claim, item)
            await webhook_subscriptions.delete(self.calendly, uri)
            await self.store.end(self.claim, item)

    async def delete_stray(self, uri: str, hook_id: HookId) -> bool:
        """Delete one that is not ours, unless it has become ours since it was listed; return whether it was deleted.

        Raises:
            OrganizationClaimLost: nothing was deleted.
        """
        with translated():
            known = await self.store.pool.fetchval(_SQL["hook_is_live"], hook_id)
        if known:
            return False
        async with self.changing("subscriptions.delete", self.claim.org, uri):
            await keep(self.store.pool, self.store.clock, self.claim)
            await webhook_subscriptions.delete(self.calendly, uri)
        return True

    async def create(self, creation: Creation, ours: Sequence[SubscriptionRecord]) -> SubscriptionRecord | None:
        """Create a subscription; None if it is no longer wanted, or another creation has begun since `ours` was read.

        Raises:
            CalendlyError: Calendly refused, or failed and may have created it: the next comparison finds it.
            OrganizationClaimLost: if Calendly has created it, the next comparison finds it.
        """
        known = {item.id for item in ours}
        written = await self.store.insert(self.claim, creation, known=known, by=self.calendly.acting)
        if written is None:
            return None
        made, signing_key = written
        async with self.changing("subscriptions.create", self.claim.org, made.id):
            return await self._subscribe(made, signing_key)

    async def create_allowed(
        self, creation: Creation, ours: Sequence[SubscriptionRecord], error: CalendlyError
    ) -> list[SubscriptionRecord] | None:
        """Create what Calendly allows of a creation that it refused, and note what it does not allow.

        Bookings first, by themselves, unless something has them; then each other family is asked about. What is
        allowed together is left to the next comparison.

        Returns:
            what was created and stays; None if Calendly allows nothing.

        Raises:
            CalendlyError: Calendly failed.
        """
        reason, created = refusal_of(error), list[SubscriptionRecord]()
        if reason is None or reason == "role":
            return None
        questions = FamilyQuestions(creation.want.events, reason)
        served = {event for item in ours if item.place == creation.want.place for event in item.events}
        for events in questions.first(served):
            if await self._ask(replace(creation, events=events), [*ours, *created], created) is not None:
                return None
        for family in questions.others():
            asked: list[SubscriptionRecord] = []
            answer = await self._ask(replace(creation, events=family), [*ours, *created], asked)
            questions.answer(family, answer)
            for item in asked:
                await self.delete(item, item.provider_uri or "")
        if not questions.allowed:
            return None
        plan, scope = questions.refused("plan"), questions.refused("scope")
        await self.store.note_refusals(self.claim, creation.want.place, plan=plan, scope=scope)
        return created

    async def _ask(
        self, creation: Creation, ours: Sequence[SubscriptionRecord], created: list[SubscriptionRecord]
    ) -> str | None:
        """Create a subscription, and add it to `created`; return why Calendly refuses it, or None."""
        try:
            made = await self.create(creation, ours)
        except CalendlyError as error:
            if (reason := refusal_of(error)) is None:
                raise
            return reason
        created += [] if made is None else [made]
        return None

    async def _subscribe(self, made: SubscriptionRecord, signing_key: str | None) -> SubscriptionRecord:
        try:
            theirs = await webhook_subscriptions.create(
                self.calendly,
                organization=self.organization,
                url=self.store.hooks.url(made.hook_id),
                events=made.events,
                signing_key=None if signing_key is None else SecretStr(signing_key),
                scope=made.scope,
                subject=made.subject,
            )
        except CalendlyError as error:
            if error.problem not in _MAY_HAVE_WORKED:
                await self.store.end(self.claim, made)
            raise
        active = await self.store.activate(self.claim, made, theirs.uri)
        if active is None:
            await webhook_subscriptions.delete(self.calendly, theirs.uri)
            raise RequestRefused("the subscription was ended while it was being created", code="changed_meanwhile")
        return active
