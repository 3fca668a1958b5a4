"""Delivers webhook subscriptions: one request at a time for each, in the order of the log.

    look ─▶ held subscriptions ─▶ follower ─▶ event ─▶ may it still? ─▶ POST ─▶ what became of it, one commit:
                acknowledged: the position moves · failed: tried again later · given up: a gap, and it moves

The position in Postgres is the watermark: everything up to it is acknowledged or given up. What is given up leaves a
gap in the same commit, and no cursor passes a gap before the client was told of it. What was sent when the process
ended is sent again, with the same event id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import DatabaseUnavailable, SlotwireError
from slotwire.ingest.foundation.mcp_events_metrics import (
    MCP_EVENT_SECONDS,
    MCP_EVENT_SUBSCRIPTIONS,
    MCP_EVENTS_GIVEN_UP,
)
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.mcp.events.access import FRESH_SECONDS, EventAccess
from slotwire.ingest.mcp.events.feed import Feed, Follower
from slotwire.ingest.mcp.events.held import HeldSubscription, is_worth_keeping
from slotwire.ingest.mcp.events.occurrences import LogEvent, WantedEvents
from slotwire.ingest.mcp.events.profiles import EventsProblem
from slotwire.ingest.mcp.events.sender import WebhookSender
from slotwire.ingest.mcp.events.slots import DeliverySlots
from slotwire.ingest.mcp.events.subscriptions import (
    DeliveryStep,
    WebhookSubscription,
    WebhookSubscriptions,
    message_id,
    slot_of,
)
from slotwire.ingest.mcp.events.verdicts import TRY_AGAIN_SECONDS, judged

LOOK_SECONDS = 1.0
"""How often subscriptions are looked for that another replica made or refreshed, and tries that are due."""
OVERLAP = timedelta(seconds=15)
"""By how much the clocks of replicas may differ."""
QUIET_SECONDS = 120.0
"""How often a subscription that nothing comes for keeps its place, and is asked whether it may go on."""
STOP_SECONDS = 5.0
"""How long requests under way may take to end when the process stops."""


class WebhookDeliveries:
    """Delivers the subscriptions of this process's slots."""

    def __init__(
        self,
        subscriptions: WebhookSubscriptions,
        feed: Feed,
        access: EventAccess,
        sender: WebhookSender,
        slots: DeliverySlots,
        clock: Clock,
        *,
        again: Sequence[float] = TRY_AGAIN_SECONDS,
    ) -> None:
        self.held: dict[str, HeldSubscription] = {}
        self._subscriptions = subscriptions
        self._feed = feed
        self._access = access
        self._sender = sender
        self._slots = slots
        self._clock = clock
        self._again = again
        self._bell = asyncio.Event()
        self._stopping = False
        self._mine: frozenset[int] = frozenset()
        self._looked_at: datetime | None = None
        self._swept_at = 0.0
        self._due: set[HeldSubscription] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._log = get_logger("mcp")

    def ring(self) -> None:
        """Look now: a subscription was made or refreshed here."""
        self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; then let requests under way end."""
        try:
            while not stop.is_set():
                self._bell.clear()
                try:
                    await self.look()
                except SlotwireError as problem:
                    self._log.warning("delivery_held", error=problem.message)
                    self._keep(frozenset())
                if self._failed is not None:
                    raise self._failed
                await _first(self._bell, stop, LOOK_SECONDS)
        finally:
            self._stopping = True
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._keep(frozenset())
            await self._slots.leave()

    async def look(self) -> None:
        """Take what is ours, and begin what is due.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        now = self._clock.now()
        mine = await self._slots.renew()
        gained, stayed = mine - self._mine, mine & self._mine
        self._keep(mine)
        found = list(await self._subscriptions.of_slots(gained)) if gained else []
        if stayed and self._looked_at is not None:
            found += await self._subscriptions.changed(stayed, self._looked_at - OVERLAP)
        self._mine, self._looked_at = mine, now
        for subscription in found:
            self._hold(subscription)
        for held in tuple(self._due):
            if held.now.next_try_at is None or held.now.next_try_at <= now:
                self._due.discard(held)
                self._begin(held)
        MCP_EVENT_SUBSCRIPTIONS.set(len(self.held))
        await self._chores()

    async def _chores(self) -> None:
        """Keep the places of those that nothing comes for, and remove what ended long ago."""
        loop_time = asyncio.get_running_loop().time()
        for held in self.held.values():
            if held.kept_at < loop_time - QUIET_SECONDS and held not in self._due:
                self._begin(held)
        if loop_time - self._swept_at >= QUIET_SECONDS:
            self._swept_at = loop_time
            await self._subscriptions.sweep()

    def _keep(self, slots: frozenset[int]) -> None:
        """Let go of subscriptions in other slots."""
        self._mine &= slots
        for held in tuple(self.held.values()):
            if slot_of(held.now.id) not in slots:
                self._drop(held)

    def _hold(self, subscription: WebhookSubscription) -> None:
        held = self.held.get(subscription.id)
        if held is None:
            held = self.held[subscription.id] = HeldSubscription(subscription)
        elif held.now.version == subscription.version:
            return
        else:
            self._renew(held, subscription)
        self._due.discard(held)
        self._begin(held)

    def _renew(self, held: HeldSubscription, subscription: WebhookSubscription) -> None:
        """Go on with a subscription as it was read again."""
        if subscription.position == held.now.position:
            held.now, held.gap_refused = subscription, False
        else:
            held.begin_anew(subscription)

    def _drop(self, held: HeldSubscription) -> None:
        if self.held.get(held.now.id) is held:
            del self.held[held.now.id]
        self._due.discard(held)
        held.begin_anew(held.now)

    def _begin(self, held: HeldSubscription) -> None:
        """Deliver what there is, unless that is under way."""
        if held.task is not None or self._stopping:
            held.again = True
            return
        held.again = False
        held.task = asyncio.create_task(self._drain(held), name=f"mcp delivery {held.now.id}")
        self._tasks.add(held.task)
        held.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()  # a defect: the process ends, and another one goes on
            self._bell.set()

    async def _drain(self, held: HeldSubscription) -> None:
        try:
            while not self._stopping and self.held.get(held.now.id) is held and await self._next(held):
                pass
        except DatabaseUnavailable:
            self._due.add(held)
        finally:
            held.task = None
            if held.again and held not in self._due and self.held.get(held.now.id) is held:
                self._begin(held)

    async def _next(self, held: HeldSubscription) -> bool:
        """Deliver what comes next; return whether there may be more to do now."""
        now = self._clock.now()
        if not held.now.active or held.now.expires_at <= now:
            self._drop(held)
            return False
        if held.now.next_try_at is not None and held.now.next_try_at > now:
            self._due.add(held)
            return False
        grant = await self._access.grant(held.now.agent, held.now.user)
        if grant is None or held.now.name not in grant.event_types:
            await self._terminate(held)
            return False
        follower = self._follower(held, None if grant.whole else held.now.user)
        if not held.pending:
            held.pending.extend(await follower.read())
        if not held.checked:
            await self._check_retention(held)
        if held.now.gap_from is not None and held.now.profile.tells_gaps and not held.gap_refused:
            return await self._tell_gap(held)
        if held.pending:
            return await self._deliver(held, held.pending[0])
        return follower.is_behind or await self._keep_place(held, follower)

    def _follower(self, held: HeldSubscription, user: str | None) -> Follower:
        """Return what follows for a subscription: from its position on, what its user sees now."""
        if held.follower is None or held.follower.wanted.user != user:
            held.begin_anew(held.now)
            it = held.now
            wanted = WantedEvents(it.org, it.name, user, None, it.wanted_arguments)
            held.follower = Follower(self._feed, wanted, it.shard, it.position, it.seen_at)
            held.follower.on_offer = lambda: self._begin(held)
        return held.follower

    async def _check_retention(self, held: HeldSubscription) -> None:
        """Note a gap if events were dropped that this subscription has not been sent."""
        held.checked = True
        head = self._feed.heads[held.now.shard].position
        first = await self._feed.log.first_kept(held.now.position, held.now.seen_at, head)
        if first is not None:
            await self._move(held, DeliveryStep(held.now.id, held.now.position, first, gap="new"))

    async def _deliver(self, held: HeldSubscription, event: LogEvent) -> bool:
        if not await self._still(held):
            return held.now.id in self.held
        outcome = await self._sender.event(held.now, event)
        step = replace(judged(held.now, outcome, event.position, self._clock.now(), self._again), about=event.id)
        if outcome.error is None:
            MCP_EVENT_SECONDS.observe(max(0.0, (self._clock.now() - event.recorded_at).total_seconds()))
        elif step.gap == "new":
            MCP_EVENTS_GIVEN_UP.inc()
        if (
            await self._move(held, step)
            and held.pending
            and held.pending[0] is event
            and step.position >= event.position
        ):
            held.pending.popleft()
        return True

    async def _tell_gap(self, held: HeldSubscription) -> bool:
        if not await self._still(held):
            return held.now.id in self.held
        outcome = await self._sender.gap(held.now, f"msg_gap_{held.now.id[:12]}_{held.now.gap_from}")
        step = judged(held.now, outcome, held.now.position, self._clock.now(), self._again)
        if step.gap == "new":
            # It is told with the next refresh instead; until then cursors stay before it.
            held.gap_refused = True
            step = replace(step, gap="")
        elif outcome.error is None:
            step = replace(step, gap="told")
        await self._move(held, step)
        return True

    async def _still(self, held: HeldSubscription) -> bool:
        """Say whether a subscription is as it was read; if not, go on with it as it is, or let go of it."""
        told, loop_time = held.state, asyncio.get_running_loop().time()
        if told is not None and loop_time - told[1] < FRESH_SECONDS:
            state: tuple[int, bool, datetime] | None = told[0]  # just told by the move before, in a row of events
        else:
            state = await self._subscriptions.state(held.now.id)
        if state == (held.now.version, True, held.now.expires_at) and self.held.get(held.now.id) is held:
            return True
        await self._read_again(held)
        return False

    async def _read_again(self, held: HeldSubscription) -> None:
        held.state = None
        fresh = await self._subscriptions.find(held.now.id)
        if fresh is None or slot_of(fresh.id) not in self._mine:
            self._drop(held)
        else:
            self._renew(held, fresh)

    async def _move(self, held: HeldSubscription, step: DeliveryStep) -> bool:
        """Commit what became of a try; False: another replica was quicker, or the subscription is gone."""
        moved = await self._subscriptions.advance(step)
        if moved is None:
            held.begin_anew(held.now)
            await self._read_again(held)
            return False
        held.state = moved.state, asyncio.get_running_loop().time()
        held.now = replace(
            held.now,
            position=step.position,
            seen_at=step.seen_at,
            gap_from=moved.gap_from,
            active=step.active,
            given_up=step.given_up,
            tries=step.tries,
            next_try_at=step.next_try_at,
            last_error=step.last_error,
        )
        return True

    async def _keep_place(self, held: HeldSubscription, follower: Follower) -> bool:
        """Move past what was not wanted, now and then, so that a rare subscription does not read it all again."""
        loop = asyncio.get_running_loop()
        if held.kept_at == 0.0:
            held.kept_at = loop.time()
        if loop.time() - held.kept_at < QUIET_SECONDS or not await self._still(held):
            return False
        held.kept_at, it = loop.time(), held.now
        if follower is held.follower and not held.pending and is_worth_keeping(it, follower):
            step = DeliveryStep(it.id, it.position, follower.position, follower.seen_at, given_up=it.given_up)
            await self._move(held, replace(step, last_error=it.last_error))
        return False

    async def _terminate(self, held: HeldSubscription) -> None:
        """End a subscription whose agent has no right to it any more, and say so where its host understands that."""
        self._drop(held)
        if not await self._subscriptions.remove(held.now.id) or not held.now.profile.tells_gaps:
            return
        name = message_id("terminated")
        for seconds in (*self._again[:2], None):
            outcome = await self._sender.terminated(held.now, name, EventsProblem.FORBIDDEN, "access was revoked")
            if outcome.error is None or outcome.final or seconds is None or self._stopping:
                return
            await asyncio.sleep(seconds)


async def _first(first: asyncio.Event, second: asyncio.Event, seconds: float) -> None:
    """Wait until one of two events is set, for at most so long."""
    waiting = {asyncio.ensure_future(first.wait()), asyncio.ensure_future(second.wait())}
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
