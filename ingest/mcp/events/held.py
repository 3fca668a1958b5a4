"""A webhook subscription that this process delivers, with what comes for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slotwire.ingest.mcp.events.feed import Follower
from slotwire.ingest.mcp.events.occurrences import LogEvent
from slotwire.ingest.mcp.events.sender import TryOutcome
from slotwire.ingest.mcp.events.subscriptions import WebhookSubscription

SEEN_AGAIN = timedelta(hours=12)
"""How old the note may get that nothing was published after a place; retention keeps at least seven days."""


@dataclass(eq=False, slots=True)
class HeldSubscription:
    """A subscription that this process delivers.

    Attributes:
        now: as it was last read or moved.
        kept_at: when its place was last kept, by the loop's clock.
        follower: what comes for it.
        pending: what was read and is not settled, in the order of the log.
        settled: what came of events behind one that failed, by position: they are not sent again.
        told: the position that an event was sent with, by its own; each try has the same.
        task: delivers; None while there is nothing to do.
        again: whether something came while it ran.
        checked: whether retention has taken nothing from it.
        state: version, whether it is active, and its end, as its last move has told, and when that was.
        gap_refused: whether its endpoint does not take note of the gap.
    """

    now: WebhookSubscription
    kept_at: float
    follower: Follower | None = None
    pending: list[LogEvent] = field(default_factory=list[LogEvent])
    settled: dict[int, TryOutcome] = field(default_factory=dict[int, TryOutcome])
    told: dict[int, int] = field(default_factory=dict[int, int])
    task: asyncio.Task[None] | None = None
    again: bool = False
    checked: bool = False
    gap_refused: bool = False
    state: tuple[tuple[int, bool, datetime], float] | None = None

    def begin_anew(self, subscription: WebhookSubscription) -> None:
        """Read on from where the subscription is."""
        self.now, self.checked, self.gap_refused = subscription, False, False
        self.pending.clear()
        self.settled.clear()
        self.told.clear()
        if self.follower is not None:
            self.follower.leave()
            self.follower = None

    def renew(self, subscription: WebhookSubscription) -> None:
        """Go on with the subscription as it was read again."""
        if subscription.position == self.now.position:
            self.now, self.gap_refused = subscription, False
        else:
            self.begin_anew(subscription)

    def next_ones(self) -> Sequence[LogEvent]:
        """Return what may be under way together: the next, and those after it while each is of another booking.

        A subscription in trouble gets one at a time: the next one decides whether it goes on.
        """
        it, keys = self.now, set[str]()
        most = it.profile.at_once if it.tries == it.given_up == 0 and it.gap_from is None else 1
        for event in self.pending[:most]:
            if event.key in keys:
                break
            keys.add(event.key)
        return self.pending[: len(keys)]

    def place_told_with(self, event: LogEvent) -> int:
        """Return the position that an event is sent with: its own if all before it is settled, and never past a gap."""
        it = self.now
        place = self.told.setdefault(event.position, event.position if event is self.pending[0] else it.position)
        return place if it.gap_from is None else min(place, it.gap_from)

    def pass_settled(self) -> None:
        """Forget what the subscription has passed."""
        passed = [event.position for event in self.pending if event.position <= self.now.position]
        del self.pending[: len(passed)]
        for position in passed:
            self.settled.pop(position, None)
            self.told.pop(position, None)


def is_worth_keeping(it: WebhookSubscription, follower: Follower) -> bool:
    """Say whether a follower has passed something, or has seen anew that there was nothing to pass."""
    if follower.position > it.position:
        return True
    seen = follower.seen_at
    return seen is not None and (it.seen_at is None or seen - it.seen_at >= SEEN_AGAIN)
