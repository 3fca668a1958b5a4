"""What is done for one subscription: a round of requests, and what became of them in one commit.

    what comes next ─▶ a turn for each ─▶ may it still? ─▶ POST ─▶ in the order of the log:
        acknowledged: the position moves · failed: tried again later · given up: a gap, and it moves

A round has several events where they are of different bookings, so each booking's come in their order, and none begins
before the one before it is answered. The position in Postgres is the watermark: everything up to it is acknowledged or
given up. What was acknowledged behind something that failed waits in memory, and a crash repeats it under its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Protocol
from uuid import UUID

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import DatabaseUnavailable
from slotwire.ingest.foundation.mcp_events_metrics import MCP_EVENT_SECONDS, MCP_EVENTS_GIVEN_UP
from slotwire.ingest.mcp.events.access import FRESH_SECONDS, EventAccess
from slotwire.ingest.mcp.events.feed import Feed, Follower
from slotwire.ingest.mcp.events.held import HeldSubscription, is_worth_keeping
from slotwire.ingest.mcp.events.occurrences import LogEvent, WantedEvents
from slotwire.ingest.mcp.events.profiles import EventsProblem
from slotwire.ingest.mcp.events.sender import TryOutcome, WebhookSender
from slotwire.ingest.mcp.events.subscriptions import DeliveryStep, WebhookSubscriptions, message_id
from slotwire.ingest.mcp.events.verdicts import judged, unmoved

QUIET_SECONDS = 120.0
"""How often a subscription that nothing comes for keeps its place, and is asked whether it may go on."""


class Holder(Protocol):
    """Has the subscriptions of this process."""

    is_stopping: bool

    def has(self, held: HeldSubscription) -> bool:
        """Say whether a subscription is still one of this process."""

    def drop(self, held: HeldSubscription) -> None:
        """Let go of a subscription."""

    def wait(self, held: HeldSubscription) -> None:
        """Begin a subscription anew when its next try is due."""

    def begin(self, held: HeldSubscription) -> None:
        """Deliver what there is, unless that is under way."""

    async def read_again(self, held: HeldSubscription) -> None:
        """Go on with a subscription as it is stored, or let go of it."""


class Withdrawn(Exception):
    """Something is not sent: its subscription is not as it was read, or may not be told any more."""


class DeliveryRounds:
    """Delivers one subscription at a time."""

    def __init__(
        self,
        subscriptions: WebhookSubscriptions,
        feed: Feed,
        access: EventAccess,
        sender: WebhookSender,
        clock: Clock,
        holder: Holder,
    ) -> None:
        self.again: Sequence[float] = ()
        self._subscriptions = subscriptions
        self._feed = feed
        self._access = access
        self._sender = sender
        self._clock = clock
        self._holder = holder

    async def next(self, held: HeldSubscription) -> bool:
        """Deliver what comes next; return whether there may be more to do now.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        now = self._clock.now()
        if not held.now.active or held.now.expires_at <= now:
            self._holder.drop(held)
            return False
        grant = await self._access.grant(held.now.agent, held.now.user)
        if grant is None or held.now.name not in grant.event_types:
            await self._terminate(held)
            return False
        if held.now.next_try_at is not None and held.now.next_try_at > now:
            self._holder.wait(held)
            return False
        follower = self._follower(held, None if grant.whole else held.now.user)
        if not held.pending or (len(held.pending) < held.now.profile.at_once and not follower.is_behind):
            held.pending.extend(await follower.read())
        if not held.checked:
            await self._check_retention(held)
        if held.now.gap_from is not None and held.now.profile.tells_gaps and not held.gap_refused:
            return await self._tell_gap(held)
        if held.pending:
            return await self._deliver(held)
        return follower.is_behind or await self._keep_place(held, follower)

    def _follower(self, held: HeldSubscription, user: str | None) -> Follower:
        """Return what follows for a subscription: from its position on, what its user sees now."""
        if held.follower is None or held.follower.wanted.user != user:
            held.begin_anew(held.now)
            it = held.now
            wanted = WantedEvents(it.org, it.name, user, None, it.wanted_arguments)
            held.follower = Follower(self._feed, wanted, it.shard, it.position, it.seen_at)
            held.follower.on_offer = lambda: self._holder.begin(held)
        return held.follower

    async def _check_retention(self, held: HeldSubscription) -> None:
        """Note a gap if events were dropped that this subscription has not been sent."""
        held.checked = True
        head = self._feed.heads[held.now.shard].position
        first = await self._feed.log.first_kept(held.now.position, held.now.seen_at, head)
        if first is not None:
            await self._move(held, DeliveryStep(held.now.id, held.now.position, first, gap="new"))

    async def _deliver(self, held: HeldSubscription) -> bool:
        events = held.next_ones()
        waiting = [event for event in events if event.position not in held.settled]
        if len(waiting) == 1:
            outcomes: Sequence[TryOutcome | None] = [await self._send(held, waiting[0])]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._send(held, event)) for event in waiting]
            outcomes = [task.result() for task in tasks]
        sent = []
        for event, outcome in zip(waiting, outcomes, strict=True):
            if outcome is not None:
                held.settled[event.position] = outcome
                sent.append((event.id, outcome.error))
        await self._settle(held, events, sent)
        if None in outcomes and self._holder.has(held):
            await self._holder.read_again(held)
        return self._holder.has(held)

    async def _send(self, held: HeldSubscription, event: LogEvent) -> TryOutcome | None:
        """Send one event; None: it was not sent."""

        async def first() -> None:
            await self._require_still(held)

        try:
            outcome = await self._sender.event(held.now, event, held.place_told_with(event), first)
        except (Withdrawn, DatabaseUnavailable):
            return None
        if outcome.error is None:
            MCP_EVENT_SECONDS.observe(max(0.0, (self._clock.now() - event.recorded_at).total_seconds()))
        return outcome

    async def _settle(
        self, held: HeldSubscription, events: Sequence[LogEvent], sent: Sequence[tuple[UUID, str | None]]
    ) -> None:
        """Move past what was acknowledged, and judge the first that was not."""
        now = self._clock.now()
        done = list(takewhile(lambda event: _is_acknowledged(held.settled.get(event.position)), events))
        step = unmoved(held.now, sent)
        if done:
            step = DeliveryStep(held.now.id, held.now.position, done[-1].position, delivered_at=now, sent=sent)
        failed = None if len(done) == len(events) else held.settled.get(events[len(done)].position)
        if done or (failed is None and sent):
            if not await self._move(held, step):
                return
            sent = ()
        if failed is None:
            return
        step = replace(judged(held.now, failed, events[len(done)].position, now, self.again), sent=sent)
        if step.gap == "new":
            MCP_EVENTS_GIVEN_UP.inc()
        if await self._move(held, step):
            # What failed behind it is sent again when its turn comes; what was acknowledged is not.
            held.settled = {at: each for at, each in held.settled.items() if each.error is None or each.final}

    async def _tell_gap(self, held: HeldSubscription) -> bool:
        async def first() -> None:
            await self._require_still(held)

        try:
            outcome = await self._sender.gap(held.now, f"msg_gap_{held.now.id[:12]}_{held.now.gap_from}", first)
        except Withdrawn:
            await self._holder.read_again(held)
            return self._holder.has(held)
        step = judged(held.now, outcome, held.now.position, self._clock.now(), self.again)
        if step.gap == "new":
            # It is told with the next refresh instead; until then cursors stay before it.
            held.gap_refused = True
            step = replace(step, gap="")
        elif outcome.error is None:
            step = replace(step, gap="told")
        await self._move(held, step)
        return True

    async def _require_still(self, held: HeldSubscription) -> None:
        """Check that a subscription is as it was read, and may be told what it follows.

        Raises:
            Withdrawn: it is not, or may not.
            DatabaseUnavailable: Postgres is away.
        """
        it = held.now
        grant = await self._access.grant(it.agent, it.user)
        follower = held.follower
        if grant is None or follower is None or not grant.covers(follower.wanted):
            raise Withdrawn
        told, loop_time = held.state, asyncio.get_running_loop().time()
        is_fresh = told is not None and loop_time - told[1] < FRESH_SECONDS  # the move before has just told it
        state = told[0] if told is not None and is_fresh else await self._subscriptions.state(it.id)
        if state != (it.version, True, it.expires_at) or not self._holder.has(held):
            raise Withdrawn

    async def _move(self, held: HeldSubscription, step: DeliveryStep) -> bool:
        """Commit what became of a try; False: another replica was quicker, or the subscription is gone."""
        moved = await self._subscriptions.advance(step)
        if moved is None:
            held.begin_anew(held.now)
            await self._holder.read_again(held)
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
        held.pass_settled()
        return True

    async def _keep_place(self, held: HeldSubscription, follower: Follower) -> bool:
        """Move past what was not wanted, now and then, so that a rare subscription does not read it all again."""
        loop = asyncio.get_running_loop()
        if loop.time() - held.kept_at < QUIET_SECONDS:
            return False
        held.kept_at, it = loop.time(), held.now
        try:
            await self._require_still(held)
        except Withdrawn:
            await self._holder.read_again(held)
            return False
        if follower is held.follower and not held.pending and is_worth_keeping(it, follower):
            await self._move(held, replace(unmoved(it), position=follower.position, seen_at=follower.seen_at))
        return False

    async def _terminate(self, held: HeldSubscription) -> None:
        """End a subscription whose agent has no right to it any more."""
        self._holder.drop(held)
        if await self._subscriptions.remove(held.now.id):
            await self.tell_end(held, "access was revoked")

    async def tell_end(self, held: HeldSubscription, why: str) -> None:
        """Say that a subscription has ended, where its host understands that."""
        if not held.now.profile.tells_gaps:
            return
        name = message_id("terminated")
        for seconds in (*self.again[:2], None):
            outcome = await self._sender.terminated(held.now, name, EventsProblem.FORBIDDEN, why)
            if outcome.error is None or outcome.final or seconds is None or self._holder.is_stopping:
                return
            await asyncio.sleep(seconds)


def _is_acknowledged(outcome: TryOutcome | None) -> bool:
    return outcome is not None and outcome.error is None
