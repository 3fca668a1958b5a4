"""Verbs of webhook subscriptions at Calendly."""

from __future__ import annotations

from uuid import UUID

from pydantic import SecretStr

from ingest.control.calendly_client.transport import connect
from ingest.control.subscription_plan import Subscription
from ingest.control.subscriptions import Listed, Subscriptions, Wanted, read_one, read_page
from ingest.operate.actions.base import CALENDLY_RETRIES, Verbs
from ingest.operate.cursors import read_time_place, write_time_place
from ingest.operate.models import (
    AtCalendlyItem,
    PageQuery,
    SubscriptionItem,
    SubscriptionPage,
    SubscriptionRequest,
)
from ingest.operate.roles import Principal, Role


class SubscriptionActions(Verbs):
    """Webhook subscriptions at Calendly."""

    async def list(
        self, who: Principal, org: str | None, query: PageQuery, token: SecretStr | None = None
    ) -> SubscriptionPage:
        """List subscriptions, oldest first; with a token, beside what Calendly says of them."""
        who.require(Role.READER)
        org = who.reach(org)
        after = None if query.cursor is None else read_time_place("subscriptions", query.cursor)
        found = await read_page(self.pool, org, after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("subscriptions", (found[-1].created_at, found[-1].id)) if more else None
        if token is None:
            return SubscriptionPage(items=tuple(map(subscription_item, found)), next_cursor=cursor)
        async with connect(self.settings.calendly, token, retries=CALENDLY_RETRIES) as calendly:
            listed = await self._manager().beside_calendly(calendly, found)
        beside = tuple(subscription_item(item.subscription, item) for item in listed)
        return SubscriptionPage(items=beside, next_cursor=cursor)

    async def create(
        self, who: Principal, org: str | None, request: SubscriptionRequest
    ) -> tuple[SubscriptionItem, bool]:
        """Subscribe an organization at Calendly; tells whether a new subscription was made."""
        async with self.audited(who, "subscriptions.create", org=org) as entry:
            who.require(Role.OPERATOR)
            wanted = Wanted(
                events=request.events,
                org=who.reach(org),
                external_id=request.external_id,
                max_age_seconds=request.max_age_seconds,
                another=request.another,
            )
            async with connect(self.settings.calendly, request.token, retries=CALENDLY_RETRIES) as calendly:
                created = await self._manager().create(calendly, wanted)
            entry.org, entry.target = created.subscription.org, created.subscription.id
        return subscription_item(created.subscription), created.new

    async def get(self, who: Principal, org: str | None, subscription_id: UUID) -> SubscriptionItem:
        """Read one subscription."""
        who.require(Role.READER)
        org = who.reach(org)
        return subscription_item(await read_one(self.pool, subscription_id, org))

    async def delete(
        self, who: Principal, org: str | None, subscription_id: UUID, token: SecretStr
    ) -> SubscriptionItem:
        """End a subscription, at Calendly first."""
        async with self.audited(who, "subscriptions.delete", org=org, target=subscription_id) as entry:
            who.require(Role.OPERATOR)
            org = who.reach(org)
            async with connect(self.settings.calendly, token, retries=CALENDLY_RETRIES) as calendly:
                ended = await self._manager().delete(calendly, subscription_id, org)
            entry.org = ended.org
        return subscription_item(ended)

    def _manager(self) -> Subscriptions:
        return Subscriptions.from_settings(self.settings, self.pool, self.clock)


def subscription_item(subscription: Subscription, listed: Listed | None = None) -> SubscriptionItem:
    """Show a subscription, with Calendly's word where it was asked for."""
    said = None
    if listed is not None and listed.asked:
        found = listed.found
        said = AtCalendlyItem(
            state="missing" if found is None else "active" if found.state == "active" else "disabled",
            retry_started_at=None if found is None else found.retry_started_at,
        )
    return SubscriptionItem(
        id=subscription.id,
        organization=subscription.org,
        scope=subscription.scope,
        events=subscription.events,
        state=subscription.state,
        provider_uri=subscription.provider_uri,
        max_age_seconds=subscription.max_age_seconds,
        created_at=subscription.created_at,
        ended_at=subscription.ended_at,
        at_calendly=said,
    )
