"""Delivers webhook subscriptions: those of this process's slots, each as soon as there is something for it.

    notice · look ─▶ held subscriptions ─▶ a task for each that has something to do ─▶ rounds

What was sent when the process ended is sent again, with the same event id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from datetime import datetime, timedelta

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import DatabaseUnavailable, SlotwireError
from slotwire.ingest.foundation.mcp_events_metrics import MCP_EVENT_BUSY, MCP_EVENT_SUBSCRIPTIONS
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.mcp.events import rounds
from slotwire.ingest.mcp.events.access import EventAccess
from slotwire.ingest.mcp.events.feed import Feed, first_of
from slotwire.ingest.mcp.events.held import HeldSubscription
from slotwire.ingest.mcp.events.rounds import DeliveryRounds
from slotwire.ingest.mcp.events.sender import WebhookSender
from slotwire.ingest.mcp.events.slots import DeliverySlots
from slotwire.ingest.mcp.events.subscriptions import WebhookSubscription, WebhookSubscriptions, slot_of
from slotwire.ingest.mcp.events.verdicts import TRY_AGAIN_SECONDS

LOOK_SECONDS = 1.0
"""How often subscriptions are looked for that another replica made or refreshed, and tries that are due."""
OVERLAP = timedelta(seconds=15)
"""By how much the clocks of replicas may differ."""
SWEEP_SECONDS = 120.0
"""How often what ended long ago is removed."""
STOP_SECONDS = 5.0
"""How long requests under way may take to end when the process stops."""


class WebhookDeliveries:
    """Delivers the subscriptions of this process's slots.

    Attributes:
        held: them, by id.
        is_stopping: whether nothing is begun any more.
    """

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
        self.is_stopping = False
        self._subscriptions = subscriptions
        self._rounds = DeliveryRounds(subscriptions, feed, access, sender, clock, self)
        self._rounds.again = again
        self._slots = slots
        self._clock = clock
        self._bell = asyncio.Event()
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
                await first_of(self._bell, stop, seconds=LOOK_SECONDS)
        finally:
            self.is_stopping = True
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
            found += await self._subscriptions.changed(stayed, self._looked_at - OVERLAP, self._knows)
        self._mine, self._looked_at = mine, now
        for subscription in found:
            self._hold(subscription)
        for held in tuple(self._due):
            if held.now.next_try_at is None or held.now.next_try_at <= now:
                self._due.discard(held)
                self.begin(held)
        MCP_EVENT_SUBSCRIPTIONS.set(len(self.held))
        MCP_EVENT_BUSY.set(len(self._tasks))
        await self._chores()

    async def _chores(self) -> None:
        """Keep the places of those that nothing comes for, and remove what ended long ago."""
        loop_time = asyncio.get_running_loop().time()
        for held in self.held.values():
            if held.kept_at < loop_time - rounds.QUIET_SECONDS and held not in self._due:
                self.begin(held)
        if loop_time - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = loop_time
            await self._subscriptions.sweep()

    def _keep(self, slots: frozenset[int]) -> None:
        """Let go of subscriptions in other slots."""
        if self._mine <= slots:
            return
        self._mine &= slots
        for held in tuple(self.held.values()):
            if slot_of(held.now.id) not in slots:
                self.drop(held)

    def _hold(self, subscription: WebhookSubscription) -> None:
        held = self.held.get(subscription.id)
        if held is None:
            # Thousands are held at once; they do not all keep their places at once.
            since = asyncio.get_running_loop().time() - random.uniform(0, rounds.QUIET_SECONDS)  # noqa: S311 - hides nothing
            held = self.held[subscription.id] = HeldSubscription(subscription, since)
        else:
            held.renew(subscription)
        self._due.discard(held)
        self.begin(held)

    def _knows(self, subscription: str, version: int) -> bool:
        held = self.held.get(subscription)
        return held is not None and held.now.version == version

    def has(self, held: HeldSubscription) -> bool:
        """Say whether a subscription is still one of this process."""
        return self.held.get(held.now.id) is held

    def drop(self, held: HeldSubscription) -> None:
        """Let go of a subscription."""
        if self.has(held):
            del self.held[held.now.id]
        self._due.discard(held)
        held.begin_anew(held.now)

    def wait(self, held: HeldSubscription) -> None:
        """Begin a subscription anew when its next try is due."""
        self._due.add(held)

    async def read_again(self, held: HeldSubscription) -> None:
        """Go on with a subscription as it is stored, or let go of it."""
        held.state = None
        fresh = await self._subscriptions.find(held.now.id)
        if fresh is None or slot_of(fresh.id) not in self._mine:
            self.drop(held)
        else:
            held.renew(fresh)

    def less_for(self, whom: str) -> None:
        """Stop what is under way for somebody who has less than before, and ask whether it may go on.

        Args:
            whom: an agent's id, the URI of a user, or an organization.
        """
        for held in tuple(self.held.values()):
            if whom in (str(held.now.agent), held.now.user, held.now.org):
                self._due.discard(held)
                if held.task is not None:
                    held.task.cancel()
                self.begin(held)

    def ended(self, subscription: str) -> None:
        """Let go of a subscription that an operator has ended, and tell its host."""
        held = self.held.get(subscription)
        if held is None:
            return
        self.drop(held)
        if held.task is not None:
            held.task.cancel()
        self._run(self._rounds.tell_end(held, "an operator ended it"), f"mcp end {subscription}")

    def begin(self, held: HeldSubscription) -> None:
        """Deliver what there is, unless that is under way."""
        if held.task is not None or self.is_stopping:
            held.again = True
            return
        held.again = False
        held.task = self._run(self._drain(held), f"mcp delivery {held.now.id}")
        held.task.add_done_callback(lambda _: self._drained(held))

    def _run(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()  # a defect: the process ends, and another one goes on
            self._bell.set()

    async def _drain(self, held: HeldSubscription) -> None:
        try:
            while not self.is_stopping and self.has(held) and await self._rounds.next(held):
                pass
        except DatabaseUnavailable:
            self._due.add(held)

    def _drained(self, held: HeldSubscription) -> None:
        held.task = None
        if held.again and held not in self._due and self.has(held):
            self.begin(held)
