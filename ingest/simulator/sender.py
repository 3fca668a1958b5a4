"""Sends messages with Calendly's retry rules. Source: docs/reference/calendly.md, "Delivery".

    pending ──2xx──▶ acknowledged
       │ ▲  └─24 h after its first attempt, or the subscription is disabled or deleted─▶ abandoned
       └─┘ anything else but 410: again after the back-off, each message on its own

A subscription whose deliveries all failed for 24 h is disabled; one whose delivery is answered 410 is deleted at once.
Its `retry_started_at` is the time since which some message has been waiting for a retry, or null. Calendly does not
publish the steps of its back-off; `DeliveryPolicy` holds ours. By setting, retries end 24 h after the meeting.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slotwire.ingest.simulator.clock import DrivenClock
from slotwire.ingest.simulator.database import LAZY_COMMIT_SECONDS, SimulatorDatabase
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.ledger import DeliveryLedger
from slotwire.ingest.simulator.model import Attempt, Faults, Message, SimulatedSubscription
from slotwire.ingest.simulator.signature import signature
from slotwire.ingest.simulator.transport import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    AttemptResult,
    LoopbackTransport,
    headers,
)

GIVE_UP_AFTER = timedelta(hours=24)
DISABLE_AFTER = timedelta(hours=24)
AFTER_MEETING = timedelta(hours=24)
GONE = 410
MAX_CONCURRENCY = 1_000
UNSENT = AttemptResult(None, "not sent", 0.0)


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The number of deliveries in flight, the steps of the back-off, and the timeouts, in seconds.

    Source: docs/reference/calendly.md, "Delivery"; for the back-off "Simulator assumptions".
    """

    concurrency: int = 64
    first_retry_seconds: float = 1.0
    factor: float = 2.0
    max_retry_seconds: float = 3600.0
    connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS
    read_timeout_seconds: float = READ_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise ValueError(f"concurrency must be from 1 to {MAX_CONCURRENCY}")
        if self.first_retry_seconds <= 0 or self.factor < 1 or self.max_retry_seconds < self.first_retry_seconds:
            raise ValueError("the back-off must begin above 0 s and must not shrink")

    def pause(self, attempts: int) -> timedelta:
        """Return how long to wait after this number of attempts."""
        # The exponent has a limit so that many failures cannot overflow a float.
        step = self.first_retry_seconds * self.factor ** min(attempts - 1, 64)
        return timedelta(seconds=min(step, self.max_retry_seconds))


class Sender:
    """Owns every pending message until it is acknowledged or abandoned."""

    def __init__(
        self, seed: str, clock: DrivenClock, database: SimulatorDatabase, ledger: DeliveryLedger, policy: DeliveryPolicy
    ) -> None:
        self.faults = Faults()
        self.app_key = ""
        self.policy = policy
        self.meeting_end: Callable[[str], datetime | None] = lambda _: None
        self._limit = policy.concurrency
        self._seed = seed
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._pending: dict[str, Message] = {}
        self._due: list[tuple[datetime, int, str]] = []
        self._held: dict[str, list[Message]] = {}
        self._retrying: defaultdict[str, set[str]] = defaultdict(set)
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._in_flight = 0
        self._full = False
        self._commit_handle: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._listeners: list[Callable[[Message, AttemptResult], None]] = []
        clock.wakes(self._wake)

    async def run(self) -> None:
        """Send until cancelled, beginning with the messages that an earlier process left pending."""
        policy = self.policy
        transport = LoopbackTransport(policy.concurrency, policy.connect_timeout_seconds, policy.read_timeout_seconds)
        self.submit(self._ledger.pending())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._release(), name="sender-timer")
                for number in range(self.policy.concurrency):
                    group.create_task(self._work(transport), name=f"sender-{number}")
        finally:
            await transport.close()
            if self._commit_handle:
                self._commit_handle.cancel()
            self._commit()

    def submit(self, messages: Iterable[Message]) -> None:
        """Take over messages from the ledger; those that are not pending are ignored."""
        for message in messages:
            if message.state != "pending" or message.id in self._pending:
                continue
            self._pending[message.id] = message
            if message.attempts:
                self._retrying[message.subscription].add(message.id)
            before = self._pending.get(message.after or "")
            if before and not before.attempts and not message.attempts:
                self._held.setdefault(before.id, []).append(message)
            else:
                self._plan(message)

    def forget(self, subscription: str) -> None:
        """Abandon the pending messages of a deleted or disabled subscription."""
        for message in [each for each in self._pending.values() if each.subscription == subscription]:
            self._tell(self._settle(replace(message, state="abandoned")), UNSENT)
            self._held.pop(message.id, None)
        self._retrying.pop(subscription, None)
        self._tell_progress()

    def listen(self, listener: Callable[[Message, AttemptResult], None]) -> Callable[[], None]:
        """Call `listener` after every attempt, and with `UNSENT` for a message abandoned with its subscription.

        Returns:
            a function that removes the listener.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def in_flight(self) -> int:
        """The number of deliveries that are being sent now."""
        return self._in_flight

    @property
    def limit(self) -> int:
        """How many deliveries may be in flight: the policy's concurrency, or less while a load asks for less."""
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._limit = max(1, min(value, self.policy.concurrency))
        self._wake.set()

    def untried(self, ident: str) -> bool:
        """Return whether the first attempt of a message is still to end."""
        message = self._pending.get(ident)
        return message is not None and not message.attempts

    async def progressed(self) -> None:
        """Wait until an attempt ends or a message is abandoned."""
        await self._progress.wait()

    async def idle(self) -> None:
        """Wait until nothing is in flight and nothing is due now."""
        while self._in_flight or not self._ready.empty() or (self._due and self._due[0][0] <= self._clock.now()):
            await self._progress.wait()

    def _plan(self, message: Message) -> None:
        heapq.heappush(self._due, (message.due_at, int(message.id[1:]), message.id))
        self._wake.set()

    async def _release(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.now()
            self._pump(now)
            self._tell_progress()
            # With no slot free, the next delivery that ends sets the event; otherwise wait for the next due time.
            self._full = not self._free()
            pause = max((self._due[0][0] - now).total_seconds(), 0.0) if self._due and not self._full else None
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _free(self) -> bool:
        return self._in_flight + self._ready.qsize() < self._limit

    def _pump(self, now: datetime) -> None:
        while self._due and self._due[0][0] <= now and self._free():
            _, _, ident = heapq.heappop(self._due)
            if ident in self._pending:
                self._ready.put_nowait(ident)

    async def _work(self, transport: LoopbackTransport) -> None:
        while True:
            ident = await self._ready.get()
            message = self._pending.get(ident)
            subscription = self._ledger.subscription(message.subscription) if message else None
            if message and subscription and subscription.state == "active":
                self._in_flight += 1
                try:
                    await self._attempt(transport, message, subscription)
                finally:
                    self._in_flight -= 1
            self._pump(self._clock.now())
            if self._full:
                self._wake.set()
            self._tell_progress()

    async def _attempt(
        self, transport: LoopbackTransport, message: Message, subscription: SimulatedSubscription
    ) -> None:
        now = self._clock.now()
        number = message.attempts + 1
        draws = Draws(self._seed, "attempt", message.id, number)
        fault = self._fault(draws)
        signed_at = (
            message.signed_at if message.signed_at and self.faults.retries_keep_signature else int(now.timestamp())
        )
        message = replace(
            message,
            attempts=number,
            first_attempt_at=message.first_attempt_at or now,
            signed_at=message.signed_at or signed_at,
        )
        key = self.app_key if subscription.app and subscription.signing_key is None else subscription.signing_key
        if key is not None and fault == "wrong signature":
            key += " but wrong"
        signed = None if key is None else signature(key, message.body, signed_at)
        answer = await transport.post(subscription.url, message.body, headers(draws, signed))
        self._ledger.put_attempt(Attempt(message.id, number, now, answer.seconds, answer.status, answer.error, fault))
        if fault == "answer lost":
            answer = AttemptResult(None, fault, answer.seconds)
        if message.id in self._pending:
            message = self._conclude(message, answer)
        elif answer.delivered:
            # It was abandoned while it was being sent, but it arrived: record that.
            message = self._settle(replace(message, state="acknowledged"))
        self._tell(message, answer)
        self._commit_soon()

    def _fault(self, draws: Draws) -> str | None:
        wrong, lost = draws.chance(self.faults.wrong_signature_rate), draws.chance(self.faults.lost_answer_rate)
        return "wrong signature" if wrong else "answer lost" if lost else None

    def _conclude(self, message: Message, answer: AttemptResult) -> Message:
        # Read it again: another message may have changed the subscription during the request.
        subscription = self._ledger.subscription(message.subscription)
        if subscription is None:
            return message
        if answer.delivered:
            message = self._settle(replace(message, state="acknowledged"))
            self._delivered(subscription)
        elif answer.status == GONE:
            message = self._settle(replace(message, state="abandoned"))
            self.forget(subscription.id)
            self._ledger.delete_subscription(subscription.id)
        else:
            message = self._failed(message, subscription, self._clock.now())
        self._let_go(message.id)
        return message

    def _delivered(self, subscription: SimulatedSubscription) -> None:
        waits = bool(self._retrying[subscription.id])
        calm = replace(
            subscription, failing_since=None, retry_started_at=subscription.retry_started_at if waits else None
        )
        if calm != subscription:
            self._ledger.put_subscription(calm)

    def _failed(self, message: Message, subscription: SimulatedSubscription, now: datetime) -> Message:
        give_up_at = self._give_up_at(message, now)
        failing_since = subscription.failing_since or now
        if now >= failing_since + DISABLE_AFTER:
            self._ledger.put_subscription(replace(subscription, state="disabled", updated_at=now))
            message = self._settle(replace(message, state="abandoned"))
            self.forget(subscription.id)
            return message
        if now >= give_up_at:
            message = self._settle(replace(message, state="abandoned"))
        else:
            message = replace(message, due_at=min(now + self.policy.pause(message.attempts), give_up_at))
            self._pending[message.id] = message
            self._retrying[subscription.id].add(message.id)
            self._ledger.update_message(message)
            self._plan(message)
        waits = bool(self._retrying[subscription.id])
        marked = replace(
            subscription,
            failing_since=failing_since if waits else None,
            retry_started_at=(subscription.retry_started_at or now) if waits else None,
        )
        if marked != subscription:
            self._ledger.put_subscription(marked)
        return message

    def _give_up_at(self, message: Message, now: datetime) -> datetime:
        give_up_at = (message.first_attempt_at or now) + GIVE_UP_AFTER
        ends = self.meeting_end(message.resource) if self.faults.gives_up_after_meeting else None
        return give_up_at if ends is None else min(give_up_at, ends + AFTER_MEETING)

    def _settle(self, message: Message) -> Message:
        self._pending.pop(message.id, None)
        self._retrying[message.subscription].discard(message.id)
        self._ledger.update_message(message)
        return message

    def _let_go(self, ident: str) -> None:
        for follower in self._held.pop(ident, ()):
            if follower.id in self._pending:
                self._plan(follower)

    def _tell(self, message: Message, answer: AttemptResult) -> None:
        for listener in self._listeners:
            listener(message, answer)

    def _tell_progress(self) -> None:
        # This wakes those who wait now; those who come later wait for the next event.
        self._progress.set()
        self._progress = asyncio.Event()

    def _commit_soon(self) -> None:
        if self._commit_handle is None:
            self._commit_handle = asyncio.get_running_loop().call_later(LAZY_COMMIT_SECONDS, self._commit)

    def _commit(self) -> None:
        self._commit_handle = None
        self._database.commit()
