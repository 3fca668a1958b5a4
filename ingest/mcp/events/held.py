"""A webhook subscription that this process delivers, with what comes for it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slotwire.ingest.mcp.events.feed import Follower
from slotwire.ingest.mcp.events.occurrences import LogEvent
from slotwire.ingest.mcp.events.subscriptions import WebhookSubscription

SEEN_AGAIN = timedelta(hours=12)
"""How old the note may get that nothing was published after a place; retention keeps at least seven days."""


@dataclass(eq=False)
class HeldSubscription:
    """A subscription that this process delivers.

    Attributes:
        now: as it was last read or moved.
        follower: what comes for it.
        pending: what was read and is not settled.
        task: delivers; None while there is nothing to do.
        again: whether something came while it ran.
        kept_at: when its place was last kept, by the loop's clock.
        checked: whether retention has taken nothing from it.
        state: version, whether it is active, and its end, as its last move has told, and when that was.
        gap_refused: whether its endpoint does not take note of the gap.
    """

    now: WebhookSubscription
    follower: Follower | None = None
    pending: deque[LogEvent] = field(default_factory=deque[LogEvent])
    task: asyncio.Task[None] | None = None
    again: bool = False
    kept_at: float = 0.0
    checked: bool = False
    gap_refused: bool = False
    state: tuple[tuple[int, bool, datetime], float] | None = None

    def begin_anew(self, subscription: WebhookSubscription) -> None:
        """Read on from where the subscription is."""
        self.now, self.checked, self.gap_refused = subscription, False, False
        self.pending.clear()
        if self.follower is not None:
            self.follower.leave()
            self.follower = None


def is_worth_keeping(it: WebhookSubscription, follower: Follower) -> bool:
    """Say whether a follower has passed something, or has seen anew that there was nothing to pass."""
    if follower.position > it.position:
        return True
    seen = follower.seen_at
    return seen is not None and (it.seen_at is None or seen - it.seen_at >= SEEN_AGAIN)
