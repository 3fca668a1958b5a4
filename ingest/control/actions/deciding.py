"""What a person decides about an action that shows nothing by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from slotwire.ingest.control.actions.action_events import settled_event
from slotwire.ingest.control.actions.records import ActionElsewhere, ActionRecord, settle_action
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.calendly_metrics import ACTIONS
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool

DECIDABLE = frozenset({"person", "not_seen", "probable"})
"""States about which a person may decide. What was not sent at all they may call off: it is not done any more."""


async def decide(
    pool: Pool, clock: Clock, record: ActionRecord, outcome: Literal["done", "not_done"], *, who: str, why: str
) -> ActionRecord:
    """Settle an action as a person says; nothing is called.

    Raises:
        RequestRefused: there is nothing to decide (`not_to_decide`), or it was settled meanwhile (`changed_meanwhile`).
    """
    if record.state not in DECIDABLE and not (record.untouched and outcome == "not_done"):
        raise RequestRefused(
            f"there is nothing to decide: the action is {record.state}",
            code="not_to_decide",
            remedy="A person decides about actions that are `person`, `not_seen` or `probable`, and may call off, with"
            " not_done, one of which nothing was sent (`not_sent`, in its first step).",
        )
    now = clock.now()
    after = (
        replace(record, state="done", reason=None, evidence="person")
        if outcome == "done"
        else replace(record, state="not_done", reason="decided", evidence=None)
    )
    try:
        stored = await settle_action(pool, after, settled_event(after, now), now=now, decision=(who, why))
    except ActionElsewhere:
        raise RequestRefused(
            "the action was settled meanwhile", code="changed_meanwhile", remedy="Look at it again."
        ) from None
    ACTIONS.labels(record.verb, outcome).inc()
    return stored
