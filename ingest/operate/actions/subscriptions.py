"""Operations on webhook subscriptions at Calendly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from uuid import UUID

from slotwire.ingest.control.catalogue import checked_events
from slotwire.ingest.control.signing_keys import revoke_all
from slotwire.ingest.control.subscription_facts import WantedSubscription
from slotwire.ingest.control.subscription_records import confirm_deletions, read_one, read_page
from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.finding_models import (
    DeletionsConfirmed,
    PlacesResumed,
    SubscriptionFindings,
    finding_item,
)
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.operate.subscription_models import (
    SubscriptionItem,
    SubscriptionPage,
    SubscriptionQuery,
    SubscriptionRequest,
    subscription_item,
)

STOPPED = "Its signing keys are revoked: nothing more is accepted. Only Calendly still has it; repeat to end it there."


class SubscriptionActions(ResourceActions):
    """Webhook subscriptions at Calendly, made and ended with the organization's own connection."""

    async def list(self, who: Principal, org: str | None, query: SubscriptionQuery) -> SubscriptionPage:
        """List subscriptions, oldest first; if asked, each with Calendly's own answer about it."""
        who.require(Role.READER)
        org = who.reach(org)
        after = None if query.cursor is None else read_time_place("subscriptions", query.cursor)
        found = await read_page(self.pool, org, after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("subscriptions", (found[-1].created_at, found[-1].id)) if more else None
        if not query.at_calendly:
            return SubscriptionPage(items=tuple(map(subscription_item, found)), next_cursor=cursor)
        organizations, compared = self.organizations(who), {}
        for asked in dict.fromkeys(item.org for item in found if item.state != "ended"):
            ours = [item for item in found if item.org == asked and item.state != "ended"]
            best = await organizations.connections.for_organization(asked)
            async with organizations.connections.acting(best) as calendly:
                listed = await organizations.subscriptions.compare_with_calendly(calendly, best.organization, ours)
            compared.update({item.subscription.id: item for item in listed})
        beside = tuple(subscription_item(item, compared.get(item.id)) for item in found)
        return SubscriptionPage(items=beside, next_cursor=cursor)

    async def create(self, who: Principal, org: str, request: SubscriptionRequest) -> tuple[SubscriptionItem, bool]:
        """Subscribe an organization, or one user or group of it. Returns also whether a subscription was made."""
        async with self.audited(who, "subscriptions.create", org=org) as entry:
            who.require(Role.OPERATOR)
            who.reach(org)
            events = checked_events(request.events, request.scope)
            want = WantedSubscription(events, request.scope, request.subject, request.max_age_seconds)
            organizations = self.organizations(who)
            organizations.subscriptions.check_address()
            best = await organizations.connections.for_organization(org)
            async with organizations.connections.acting(best) as calendly:
                await organizations.subscriptions.want(org, want)
                result = await organizations.subscriptions.reconcile(calendly, best.organization)
            if (served := result.serving.get(want)) is None:
                raise contested(org)
            entry.target = served.id
            return subscription_item(served), any(item.id == served.id for item in result.created)

    async def get(self, who: Principal, org: str | None, subscription_id: UUID) -> SubscriptionItem:
        """Read one subscription."""
        who.require(Role.READER)
        return subscription_item(await read_one(self.pool, subscription_id, who.reach(org)))

    async def findings(self, who: Principal, org: str) -> SubscriptionFindings:
        """Ask Calendly what is wrong with an organization's subscriptions; nothing is changed."""
        who.require(Role.READER)
        who.reach(org)
        organizations = self.organizations(who)
        best = await organizations.connections.for_organization(org)
        async with organizations.connections.acting(best) as calendly:
            found = await organizations.subscriptions.check(calendly, best.organization)
        return SubscriptionFindings(organization=org, findings=tuple(finding_item(org, item) for item in found))

    async def resume(self, who: Principal, org: str) -> PlacesResumed:
        """Make subscriptions of an organization again that were gone again and again."""
        async with self.audited(who, "subscriptions.resume", org=org, target=org):
            who.require(Role.OPERATOR)
            who.reach(org)
            organizations = self.organizations(who)
            await organizations.get(org)
            resumed = await organizations.subscriptions.resume(org)
        return PlacesResumed(organization=org, resumed=resumed)

    async def confirm_deletions(self, who: Principal) -> DeletionsConfirmed:
        """Carry deletions at Calendly out on this database, after it was restored, copied or failed over."""
        async with self.audited(who, "subscriptions.confirm_deletions", org=None):
            who.require(Role.ADMIN)
            who.require_everywhere()
            return DeletionsConfirmed(changed=await confirm_deletions(self.pool, self.clock.now()))

    async def delete(
        self, who: Principal, org: str | None, subscription_id: UUID, *, at_once: bool = False
    ) -> SubscriptionItem:
        """End a subscription, at Calendly first, and no longer want it. `at_once` revokes its signing keys before."""
        async with self.audited(who, "subscriptions.delete", org=org, target=subscription_id) as entry:
            who.require(Role.OPERATOR)
            found = await read_one(self.pool, subscription_id, who.reach(org))
            entry.org = found.org
            organizations = self.organizations(who)
            if at_once:  # in the audit by itself, because it is done whatever Calendly then answers
                async with self.audited(who, "signing_keys.revoke", org=found.org, target=found.id):
                    if found.state != "ended":  # what took the place of an ended one is still wanted
                        await organizations.subscriptions.unwant(found.org, found.scope, found.subject)
                    await revoke_all(self.pool, found.org, found.id)
            if found.state == "ended":
                return subscription_item(found)
            with saying_stopped() if at_once else nullcontext():
                best = await organizations.connections.for_organization(found.org)
                async with organizations.connections.acting(best) as calendly:
                    ended = await organizations.subscriptions.delete(calendly, found, best.organization)
            return subscription_item(ended)


def contested(org: str) -> RequestRefused:
    """Make the error for a subscription that is not made, because it was gone again and again."""
    return RequestRefused(
        "this subscription was gone again and again: something deletes it at Calendly, so none is made",
        code="contested",
        remedy=f"Find out who or what deletes it, then: slotwire subscriptions resume --organization {org}",
    )


@contextmanager
def saying_stopped() -> Iterator[None]:
    """Add to an error that the keys are revoked all the same, and that the rest can be repeated."""
    try:
        yield
    except SlotwireError as error:
        error.remedy = f"{STOPPED} {error.remedy}".strip()
        raise
