"""What is published, as it comes: read once for all subscriptions and streams of the process, and found by an index.

    rung ─▶ feed ──reads what is new──▶ index: organization, type ▶ user, event type, domain ──▶ followers, a queue each

A follower that is behind, or whose queue is full, reads the log for itself until it has caught up. So one that nobody
empties costs a bounded queue, and holds nobody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from slotwire.ingest.foundation.errors import SlotwireError
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.mcp.events.occurrences import LogEvent, WantedEvents, places_of
from slotwire.ingest.mcp.events.published import PublishedLog, ShardHead

MAX_QUEUED = 100
"""Events that wait for one follower in memory."""
POLL_SECONDS = 0.25
"""How often the feed asks how far the log is published where nobody rings, while anybody follows."""
RETRY_SECONDS = 1.0
"""How long it waits when Postgres is away."""


class Follower:
    """Reads what one subscription or stream wants, from a position on.

    Attributes:
        wanted: what it wants.
        shard: of its organization.
        position: everything up to here was given out by `read`, or is not wanted.
        seen_at: when nothing was published after it; None where that is not known.
        on_offer: called when something was put into the queue, or did not fit; rings `bell` unless it is replaced.
    """

    def __init__(
        self, feed: Feed, wanted: WantedEvents, shard: int, position: int, seen_at: datetime | None = None
    ) -> None:
        self.wanted = wanted
        self.shard = shard
        self.position = position
        self.seen_at = seen_at
        self.on_offer: Callable[[], object] = self.ring
        self._feed = feed
        self._queue: list[LogEvent] | None = None
        self._joined_at = 0
        self._bell: asyncio.Event | None = None

    @property
    def bell(self) -> asyncio.Event:
        """Set when there may be something to read. Ten thousand that nobody waits for have none."""
        if self._bell is None:
            self._bell = asyncio.Event()
            if self._queue:
                self._bell.set()
        return self._bell

    def ring(self) -> None:
        """Wake who waits."""
        if self._bell is not None:
            self._bell.set()

    @property
    def is_behind(self) -> bool:
        """Whether it has to read the log for itself."""
        return self._queue is None or self.position < self._joined_at

    async def read(self) -> Sequence[LogEvent]:
        """Give out what comes next of what is wanted; empty: nothing, up to the new position.

        Raises:
            DatabaseUnavailable: Postgres is away; nothing was given out.
        """
        if self._bell is not None:
            self._bell.clear()
        if self._queue is None:
            self._joined_at = await self._feed.join(self)
            self._queue = []
        if self.position < self._joined_at:
            page = await self._feed.log.of(self.wanted, self.shard, self.position, self._joined_at)
            self.position, self.seen_at = page.reached, None
            return [event for event in page.events if self.wanted.has(event)]
        if self._queue:
            events = [event for event in self._queue if event.position > self.position]
            self._queue.clear()
            if events:
                self.position, self.seen_at = events[-1].position, None
            return events
        head = self._feed.heads[self.shard]
        if head.position >= self.position:
            self.position, self.seen_at = head.position, head.seen_at
        return ()

    def offer(self, event: LogEvent) -> bool:
        """Take an event from the feed; False: the queue is full, and it follows no more until it reads again."""
        if self._queue is None or len(self._queue) >= MAX_QUEUED:
            self._queue = None
        else:
            self._queue.append(event)
        self.on_offer()
        return self._queue is not None

    def leave(self) -> None:
        """Follow no more."""
        self._feed.leave(self)
        self._queue = None


class Feed:
    """Reads what is published, once for all followers.

    Attributes:
        log: what is published.
        heads: how far each shard has been read, once somebody follows.
    """

    def __init__(self, log: PublishedLog) -> None:
        self.log = log
        self.heads: dict[int, ShardHead] = {}
        self._index: dict[tuple[str, str], dict[tuple[str | None, ...], set[Follower]]] = defaultdict(dict)
        self._followers: set[Follower] = set()
        self._somebody = asyncio.Event()
        self._bell = asyncio.Event()

    def __len__(self) -> int:
        """Return how many follow."""
        return len(self._followers)

    async def join(self, follower: Follower) -> int:
        """Let somebody follow; everything after the position that this returns is offered.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        if not self._followers or follower.shard not in self.heads:
            # Nobody has listened for a while: what was published meanwhile is not read by everybody's way.
            heads = await self.log.heads()
            if not self._followers:
                self.heads = dict(heads.shards)
        wanted = follower.wanted
        self._index[wanted.org, wanted.name].setdefault(wanted.place, set()).add(follower)
        self._followers.add(follower)
        self._somebody.set()
        return self.heads[follower.shard].position

    def leave(self, follower: Follower) -> None:
        """Let somebody follow no more."""
        self._followers.discard(follower)
        wanted = follower.wanted
        places = self._index.get((wanted.org, wanted.name), {})
        if (there := places.get(wanted.place)) is not None:
            there.discard(follower)
            if not there:
                del places[wanted.place]
        if not places:
            self._index.pop((wanted.org, wanted.name), None)
        if not self._followers:
            self._somebody.clear()

    def ring(self) -> None:
        """Read now: something was published."""
        self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Read what is published until `stop` is set. While nobody follows, nothing is read."""
        log = get_logger("mcp")
        while not stop.is_set():
            if not self._followers:
                await first_of(self._somebody, stop)
                continue
            self._bell.clear()
            try:
                await self.run_once()
            except SlotwireError as problem:
                log.warning("feed_held", error=problem.message)
                await wait_for(stop, RETRY_SECONDS)
            await first_of(self._bell, stop, seconds=POLL_SECONDS)

    async def run_once(self) -> None:
        """Read what was published since the last time, and offer it.

        Raises:
            DatabaseUnavailable: Postgres is away; what was read before is offered.
        """
        heads = await self.log.heads()
        for shard, head in heads.shards.items():
            while (place := self.heads.setdefault(shard, head)).position < head.position:
                page = await self.log.everything(shard, place.position, head.position)
                self.heads[shard] = ShardHead(page.reached, head.seen_at if page.reached == head.position else None)
                for event in page.events:
                    self._offer(event)
            if place.position == head.position:
                self.heads[shard] = head

    def _offer(self, event: LogEvent) -> None:
        places = self._index.get((event.org, event.type))
        if not places:
            return
        for place in places_of(event):
            for follower in tuple(places.get(place, ())):
                if follower.wanted.has(event) and not follower.offer(event):
                    self.leave(follower)


async def first_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until one of some events is set, for at most so long."""
    waiting = [asyncio.ensure_future(each.wait()) for each in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
