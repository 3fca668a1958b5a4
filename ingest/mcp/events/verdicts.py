"""What a try means for a subscription: it moves on, waits, gives something up, or is sent nothing for a while."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from slotwire.ingest.mcp.events.sender import TryOutcome
from slotwire.ingest.mcp.events.subscriptions import DeliveryStep, WebhookSubscription

TRY_AGAIN_SECONDS = (1.0, 10.0, 60.0, 240.0, 480.0)
"""When a message is tried again, after each failure: six tries within 14 minutes, then it is given up."""
SUSPEND_AFTER = 5
"""Events that are given up in a row because nobody answers: then nothing is sent before the next refresh."""


def judged(
    it: WebhookSubscription, outcome: TryOutcome, position: int, now: datetime, again: Sequence[float]
) -> DeliveryStep:
    """Say what a try means for a subscription."""
    if outcome.error is None:
        return DeliveryStep(it.id, it.position, position, delivered_at=now)
    error = outcome.error
    if not outcome.final and it.tries < len(again):
        wait = again[it.tries] * random.uniform(1.0, 1.25)  # noqa: S311 - spreads requests, hides nothing
        due = now + timedelta(seconds=wait)
        return DeliveryStep(
            it.id, it.position, it.position, it.seen_at, it.tries + 1, due, it.given_up, last_error=error
        )
    if not outcome.final and it.given_up + 1 >= SUSPEND_AFTER:
        return DeliveryStep(it.id, it.position, it.position, it.seen_at, last_error=error, active=False)
    return DeliveryStep(it.id, it.position, position, given_up=it.given_up + 1, last_error=error, gap="new")


def unmoved(it: WebhookSubscription, sent: Sequence[tuple[UUID, str | None]] = ()) -> DeliveryStep:
    """Return the step that leaves a subscription as it is."""
    place = (it.id, it.position, it.position, it.seen_at)
    return DeliveryStep(*place, it.tries, it.next_try_at, it.given_up, last_error=it.last_error, sent=sent)
