"""Every operator verb, once: who may do it, and what it does. HTTP and commands both come through here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import SecretStr

from ingest import quarantine
from ingest.control.calendly_client.transport import RetryPolicy, connect
from ingest.control.subscription_plan import Subscription
from ingest.control.subscriptions import Listed, Subscriptions, Wanted, read_one, read_page
from ingest.errors import RequestRefused
from ingest.foundation.clock import Clock
from ingest.foundation.lifecycle import wait_for
from ingest.foundation.postgres import Pool, create_pool
from ingest.operate import api_keys, booking_pages, log_pages
from ingest.operate.api_keys import ApiKey
from ingest.operate.booking_models import BookingPage, BookingQuery, Timeline
from ingest.operate.cursors import (
    read_id_place,
    read_log_place,
    read_name_place,
    read_time_place,
    write_id_place,
    write_log_place,
    write_name_place,
    write_time_place,
)
from ingest.operate.models import (
    AtCalendlyItem,
    DeliveryPage,
    DeliveryQuery,
    EventDetail,
    EventItem,
    EventPage,
    EventQuery,
    KeyItem,
    KeyPage,
    KeyRequest,
    NewKey,
    PageQuery,
    SubscriptionItem,
    SubscriptionPage,
    SubscriptionRequest,
)
from ingest.operate.quarantine_models import (
    DiscardRequest,
    QuarantineDetail,
    QuarantineItem,
    QuarantinePage,
    QuarantineQuery,
    quarantine_detail,
    quarantine_item,
)
from ingest.operate.roles import Principal, Role

if TYPE_CHECKING:
    from ingest.foundation.settings import Settings

FOLLOW_SECONDS = 0.25
"""How often the log is asked for new events while it is followed."""
RETRY_PAGE = 200
"""Quarantined deliveries whose ids are read at a time while they are retried."""
CALENDLY_RETRIES = RetryPolicy(attempts=2)
"""Somebody waits for the answer."""


@dataclass(frozen=True, slots=True)
class Actions:
    """The verbs, on one database. Made by `operating`."""

    pool: Pool
    settings: Settings
    clock: Clock

    async def list_events(self, who: Principal, query: EventQuery) -> EventPage:
        """List events of the log, oldest first."""
        who.require(Role.READER)
        only = log_pages.EventFilter(who.reach(query.organization), query.type, query.subject)
        if query.cursor is not None:
            if query.after is not None:
                raise RequestRefused(
                    "`cursor` and `after` exclude each other", code="parameter_invalid", remedy="Leave one out."
                )
            place = read_log_place(query.cursor)
        else:
            place = await log_pages.everywhere(self.pool, query.after or 0)
        # One more than asked is read, to know whether there is more.
        items = await log_pages.events_after(self.pool, place, only, limit=query.limit + 1)
        more, items = len(items) > query.limit, items[: query.limit]
        reached = log_pages.place_after(place, items, only)
        return EventPage(items=tuple(items), next_cursor=write_log_place(reached) if more else None)

    async def get_event(self, who: Principal, event_id: UUID) -> EventDetail:
        """Read one event with its data."""
        who.require(Role.READER)
        found = await log_pages.event(self.pool, event_id, who.org)
        if found is None:
            raise RequestRefused("there is no such event within reach", code="not_found", remedy="Check its id.")
        return found

    async def list_deliveries(self, who: Principal, query: DeliveryQuery) -> DeliveryPage:
        """List deliveries, newest first."""
        who.require(Role.READER)
        items = await log_pages.deliveries(
            self.pool,
            before=None if query.cursor is None else read_id_place("deliveries", query.cursor),
            org=who.reach(query.organization),
            outcome=query.outcome,
            event_id=query.event_id,
            limit=query.limit + 1,
        )
        more, items = len(items) > query.limit, items[: query.limit]
        cursor = write_id_place("deliveries", items[-1].id) if more else None
        return DeliveryPage(items=tuple(items), next_cursor=cursor)

    async def list_bookings(self, who: Principal, query: BookingQuery) -> BookingPage:
        """List bookings, by their invitees' names."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_name_place("bookings", query.cursor)
        org = who.reach(query.organization)
        items = await booking_pages.page(self.pool, query, org, after=after, limit=query.limit + 1)
        more, items = len(items) > query.limit, items[: query.limit]
        cursor = write_name_place("bookings", items[-1].invitee) if more else None
        return BookingPage(items=tuple(items), next_cursor=cursor)

    async def get_timeline(self, who: Principal, invitee: str) -> Timeline:
        """Read one booking's way from the POST to the topic."""
        who.require(Role.READER)
        prefix = self.settings.kafka.topic_prefix
        found = await booking_pages.timeline(self.pool, invitee, who.org, topic_prefix=prefix)
        if found is None:
            raise RequestRefused(
                "there is no such booking within reach",
                code="not_found",
                remedy="Give the invitee's whole URI, as `slotwire bookings list` shows it.",
            )
        return found

    async def list_quarantine(self, who: Principal, query: QuarantineQuery) -> QuarantinePage:
        """List quarantined deliveries, newest first."""
        who.require(Role.READER)
        state = None if query.state == "all" else query.state
        only = quarantine.Only(who.reach(query.organization), query.reason, state)
        before = None if query.cursor is None else read_id_place("quarantine", query.cursor)
        found = await quarantine.read_page(self.pool, only, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("quarantine", found[-1].delivery_id) if more else None
        return QuarantinePage(items=tuple(map(quarantine_item, found)), next_cursor=cursor)

    async def get_quarantined(self, who: Principal, delivery_id: UUID) -> QuarantineDetail:
        """Read one quarantined delivery; its body from the role `operator` on."""
        who.require(Role.READER)
        found = await quarantine.read_one(self.pool, delivery_id, who.org)
        if found is None:
            raise _not_quarantined()
        return quarantine_detail(found, with_body=who.role.rank >= Role.OPERATOR.rank)

    async def retry_quarantined(self, who: Principal, delivery_id: UUID) -> QuarantineItem:
        """Read a quarantined delivery again; it becomes events, or stays with the reason it has now."""
        who.require(Role.OPERATOR)
        found = await quarantine.retry(self.pool, delivery_id, who.org, now=self.clock.now())
        if found is None:
            raise _not_quarantined()
        return quarantine_item(found)

    async def count_waiting(self, who: Principal, reason: str, org: str | None) -> int:
        """Count the deliveries that wait in quarantine for one reason."""
        who.require(Role.READER)
        return await quarantine.count_waiting(self.pool, reason, who.reach(org))

    async def retry_waiting(self, who: Principal, reason: str, org: str | None) -> AsyncIterator[QuarantineItem]:
        """Retry what waits for one reason, in the order it came, each once; gives each as it is then."""
        who.require(Role.OPERATOR)
        reached, after = who.reach(org), UUID(int=0)
        while ids := await quarantine.waiting_ids(self.pool, reason, reached, after=after, limit=RETRY_PAGE):
            for delivery_id in ids:
                yield await self.retry_quarantined(who, delivery_id)
            after = ids[-1]

    async def discard_quarantined(self, who: Principal, delivery_id: UUID, request: DiscardRequest) -> QuarantineItem:
        """Settle a quarantined delivery as not wanted; its body stays. Doing it twice keeps the first reason."""
        who.require(Role.OPERATOR)
        if await quarantine.read_one(self.pool, delivery_id, who.org) is None:
            raise _not_quarantined()
        await quarantine.discard(self.pool, delivery_id, request.why, now=self.clock.now())
        found = await quarantine.read_one(self.pool, delivery_id, who.org)
        if found is None:
            raise _not_quarantined()
        if found.state == "retried":
            raise RequestRefused(
                "it was retried and is no longer in quarantine",
                code="retried_already",
                remedy="`slotwire events list` shows what it became.",
            )
        return quarantine_item(found)

    async def list_subscriptions(
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

    async def create_subscription(
        self, who: Principal, org: str | None, request: SubscriptionRequest
    ) -> tuple[SubscriptionItem, bool]:
        """Subscribe an organization at Calendly; tells whether a new subscription was made."""
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
        return subscription_item(created.subscription), created.new

    async def get_subscription(self, who: Principal, org: str | None, subscription_id: UUID) -> SubscriptionItem:
        """Read one subscription."""
        who.require(Role.READER)
        org = who.reach(org)
        return subscription_item(await read_one(self.pool, subscription_id, org))

    async def delete_subscription(
        self, who: Principal, org: str | None, subscription_id: UUID, token: SecretStr
    ) -> SubscriptionItem:
        """End a subscription, at Calendly first."""
        who.require(Role.OPERATOR)
        org = who.reach(org)
        async with connect(self.settings.calendly, token, retries=CALENDLY_RETRIES) as calendly:
            return subscription_item(await self._manager().delete(calendly, subscription_id, org))

    async def latest_events(self, who: Principal, query: EventQuery) -> tuple[EventItem, ...]:
        """Read the last events, oldest first."""
        who.require(Role.READER)
        only = log_pages.EventFilter(who.reach(query.organization), query.type, query.subject)
        return tuple(await log_pages.latest_events(self.pool, only, limit=query.limit))

    async def follow_events(self, who: Principal, query: EventQuery, stop: asyncio.Event) -> AsyncIterator[EventItem]:
        """Give events as they are committed, from `after` (or from now) until a stop is asked for."""
        who.require(Role.READER)
        only = log_pages.EventFilter(who.reach(query.organization), query.type, query.subject)
        place = await log_pages.log_ends(self.pool)
        if query.after is not None:
            place = dict.fromkeys(place, query.after)
        while not stop.is_set():
            items = await log_pages.events_after(self.pool, place, only, limit=query.limit)
            place = log_pages.place_after(place, items, only)
            for item in items:
                yield item
            if len(items) < query.limit:
                await wait_for(stop, FOLLOW_SECONDS)

    async def list_keys(self, who: Principal, query: PageQuery) -> KeyPage:
        """List keys of the management API, oldest first."""
        who.require(Role.ADMIN)
        after = None if query.cursor is None else read_time_place("keys", query.cursor)
        found = await api_keys.page(self.pool, who.org, after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("keys", (found[-1].created_at, found[-1].id)) if more else None
        return KeyPage(items=tuple(map(key_item, found)), next_cursor=cursor)

    async def create_key(self, who: Principal, request: KeyRequest) -> NewKey:
        """Make a key; the answer is the only place where it is shown."""
        who.require(Role.ADMIN)
        made, key = await api_keys.create(
            self.pool,
            role=request.role,
            org=who.reach(request.organization),
            label=request.label,
            now=self.clock.now(),
        )
        return NewKey(**key_item(made).model_dump(), key=key.get_secret_value())

    async def revoke_key(self, who: Principal, key_id: UUID) -> KeyItem:
        """Revoke a key at once."""
        who.require(Role.ADMIN)
        return key_item(await api_keys.revoke(self.pool, key_id, who.org, self.clock.now()))

    def _manager(self) -> Subscriptions:
        return Subscriptions.from_settings(self.settings, self.pool, self.clock)


@asynccontextmanager
async def operating(settings: Settings, clock: Clock, *, application: str) -> AsyncIterator[Actions]:
    """Offer the verbs on the database of the settings while the block runs. Nothing is asked of it yet.

    Raises:
        ConfigurationError: the database's address is missing or cannot be read.
    """
    dsn = settings.database_url.get_secret_value()
    async with create_pool(dsn, settings.database, application=application) as pool:
        yield Actions(pool, settings, clock)


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


def _not_quarantined() -> RequestRefused:
    return RequestRefused(
        "there is no such delivery in quarantine within reach",
        code="not_found",
        remedy="Give a delivery's id, as `slotwire quarantine list` shows it.",
    )


def key_item(key: ApiKey) -> KeyItem:
    """Show a key, without the key."""
    return KeyItem(
        id=key.id,
        role=key.role,
        organization=key.org,
        label=key.label,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )
