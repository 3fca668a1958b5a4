"""A round for one organization: hold it, list its event types, read what is due, write what changed, publish it.

    hold ─▶ list, where it is time ─▶ what is gone, what is new    each committed with the epoch
         ─▶ of each user that is due: busy times, open slots       committed user by user
         ─▶ publish what the topic does not have, note that ─▶ leave

It may be killed anywhere: what is written and not published is published by the next round, once more at worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import orjson

from slotwire.handlers.agents.availability_sync.feed import Entry, opened_feed
from slotwire.handlers.agents.availability_sync.reading import (
    Known,
    Offer,
    bounded,
    busy_in,
    by_user,
    differs,
    due,
    ends_after,
    offers_in,
    slots_in,
    weeks_of,
)
from slotwire.handlers.agents.availability_sync.store import AvailabilityWriter, Unpublished, Written, hold
from slotwire.ingest.foundation.agent_settings import AvailabilitySettings
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import ControlUnavailable, RequestRefused, SlotwireError
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.schemas.availability import Availability, key_of

PUBLISHED_AT_ONCE = 100
"""Records of a transaction."""
NOBODY_READS = frozenset({"connection_missing", "connection_unable", "organization_refused"})
"""Refusals after which nothing of an organization can be read: what is known of it would only grow old."""
NOT_THERE = frozenset({"calendly_not_found", "calendly_permission"})
"""Refusals that concern what one call was about."""
MAX_LISTED = 1_000
"""Event types that one call lists; of more, the others are not kept."""
MAX_PROBLEMS = 3
"""Users that could not be read, after whom a round ends."""


class Source(Protocol):
    """Reads at Calendly: `ctx.calendly`."""

    async def call(self, operation: str, /, **values: object) -> Any:
        """Make one call."""
        ...


@dataclass(frozen=True, slots=True)
class Synced:
    """What a round did.

    Attributes:
        read: how many offers were read.
        published: records that were written to the topic.
        tombstones: how many of them were tombstones.
    """

    read: int = 0
    published: int = 0
    tombstones: int = 0


@dataclass(slots=True)
class Round:
    """A round that has begun."""

    writer: AvailabilityWriter
    clock: Clock
    source: Source
    settings: AvailabilitySettings | None
    problems: list[SlotwireError] = field(default_factory=list, init=False)

    async def read(self) -> int:
        """List and read what is due; return how many offers were read.

        Raises:
            TakenOver: by another writer.
            ControlUnavailable: what was read so far is written.
        """
        known = {each.offer: each for each in await self.writer.known()}
        try:
            if self.settings is None:
                await self._end(known.values())
                return 0
            known |= await self._list(known, self.settings)
            return await self._read_due(known, self.settings)
        except RequestRefused as refused:
            if refused.code not in NOBODY_READS:
                raise
            await self._end(known.values())
            return 0

    async def _list(self, known: dict[Offer, Known], settings: AvailabilitySettings) -> dict[Offer, Known]:
        """List event types where it is time; return what is new or gone."""
        listed_at, list_due = await self.writer.listing()
        now = self.clock.now()
        if listed_at is not None and not list_due and now < listed_at + timedelta(minutes=settings.list_minutes):
            return {}
        listed = await self._items("list-event-types", active=True) or ()
        offers = offers_in(listed)
        new = {each: Known(each) for each in sorted(offers) if each not in known or known[each].gone}
        gone = {each: replace(old, gone=True) for each, old in known.items() if each not in offers and not old.gone}
        if len(listed) >= MAX_LISTED:  # there may be more
            gone = {}
        # A row that was never read is not published; one that is gone is a tombstone.
        rows = [Written(each, each.gone) for each in (*new.values(), *gone.values())]
        await self.writer.write(rows, begun=now, listed=True)
        return {**new, **gone}

    async def _read_due(self, known: dict[Offer, Known], settings: AvailabilitySettings) -> int:
        read = 0
        for user, offers in by_user(due(known.values(), settings, self.clock.now())).items():
            try:
                read += await self._read_user(user, [known[each] for each in offers], settings.days)
            except ControlUnavailable as problem:  # one whose calendar cannot be reached holds up no other
                self.problems.append(problem)
                if len(self.problems) == MAX_PROBLEMS:
                    break
        return read

    async def _read_user(self, user: str, offers: Sequence[Known], days: int) -> int:
        begun = self.clock.now()
        first, ends = begun + timedelta(minutes=1), ends_after(begun, days)
        busy = await self._busy(user, first, ends) if offers[0].offer.of_user else ()
        rows = list[Written]()
        for old in offers:
            found = None if busy is None else await self._slots(old.offer, first, ends)
            if busy is None or found is None:
                rows.append(Written(replace(old, gone=True), changed=True))
            else:
                new = bounded(Known(old.offer, ends, slots_in(found), busy_in(busy), begun))
                rows.append(Written(new, differs(old, new, begun)))
        await self.writer.write(rows, begun=begun)
        return len(rows)

    async def _busy(self, user: str, first: datetime, ends: datetime) -> Sequence[Any] | None:
        """Read busy times; None where the user is not there, or not within reach."""
        found: list[Any] = []
        for start, end in weeks_of(first, ends):
            part = await self._items("list-user-busy-times", user=user, start_time=start, end_time=end)
            if part is None:
                return None
            found += part
        return found

    async def _slots(self, offer: Offer, first: datetime, ends: datetime) -> Sequence[Any] | None:
        """Read open slots; None where the event type is not there any more."""
        return await self._items(
            "list-event-type-available-times", event_type=offer.event_type, start_time=first, end_time=ends
        )

    async def _items(self, operation: str, **values: object) -> Sequence[Any] | None:
        """Make a call, and return what it lists; None where there is no such thing, or it may not be read."""
        try:
            answer = await self.source.call(operation, **values)
        except RequestRefused as refused:
            if refused.code not in NOT_THERE:
                raise
            return None
        found: Sequence[Any] = answer["collection"] if isinstance(answer, dict) else answer
        return found

    async def _end(self, known: Iterable[Known]) -> None:
        rows = [Written(replace(each, gone=True), changed=True) for each in known if not each.gone]
        if rows:
            await self.writer.write(rows, begun=self.clock.now())


async def publish(writer: AvailabilityWriter, kafka: KafkaSettings, *, organization: str) -> tuple[int, int]:
    """Publish what the topic does not have; return how many records, and how many of them tombstones.

    Raises:
        TakenOver: by another writer.
        BrokerUnavailable: the next round publishes it.
    """
    if not await writer.unpublished(1):
        return 0, 0
    count = tombstones = 0
    async with opened_feed(kafka, writer.org) as feed:
        while rows := await writer.unpublished(PUBLISHED_AT_ONCE):  # as this epoch, now that the others are shut out
            await feed.publish([_entry(each, organization) for each in rows])
            await writer.published(rows)
            count += len(rows)
            tombstones += sum(each.known.gone for each in rows)
    return count, tombstones


def _entry(row: Unpublished, organization: str) -> Entry:
    known, offer = row.known, row.known.offer
    key = key_of(offer.user, offer.event_type)
    if known.gone or known.read_at is None or known.ends is None:
        return key, None
    value = Availability(
        organization=organization,
        user=offer.user,
        event_type=offer.event_type,
        read_at=known.read_at,
        ends=known.ends,
        slots=known.slots,
        busy=known.busy,
    )
    return key, orjson.dumps(value.model_dump(mode="json"))


async def sync_organization(
    org: str,
    source: Source,
    pool: Pool,
    kafka: KafkaSettings,
    clock: Clock,
    settings: AvailabilitySettings | None,
    *,
    writer: str,
) -> Synced | None:
    """Make a round; None where another process makes one.

    Args:
        org: the organization's identifier.
        source: reads at Calendly for it.
        pool: the database, as the agents' role.
        kafka: the broker.
        clock: the time.
        settings: the organization's; None ends what is kept.
        writer: a name of this process, for people.

    Raises:
        TakenOver: another process makes one by now.
        ControlUnavailable: Calendly cannot be read now.
        BrokerUnavailable: Kafka is away.
        DatabaseUnavailable: Postgres is away.
    """
    held = await hold(pool, clock, org, writer=writer)
    if held is None:
        return None
    made = Round(held, clock, source, settings)
    try:
        try:
            read = await made.read()
        except (ControlUnavailable, RequestRefused) as problem:
            made.problems.append(problem)
            read = 0
        published = await publish(held, kafka, organization=f"https://api.calendly.com/organizations/{org}")
    finally:
        await held.leave()
    if made.problems:
        raise made.problems[0]
    return Synced(read, *published)
