"""Stores an action between its calls: until when it is kept, what holds it back, and how it ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from slotwire.ingest.control.actions.action_events import settled_event
from slotwire.ingest.control.actions.calls import CallNotSent
from slotwire.ingest.control.actions.holding import Held, held_back
from slotwire.ingest.control.actions.records import ActionRecord, keep_action, settle_action
from slotwire.ingest.control.actions.settlement import Settle
from slotwire.ingest.control.calendly_client import booking_limits
from slotwire.ingest.control.calendly_client.leases import CallKind
from slotwire.ingest.control.connections import Connections
from slotwire.ingest.foundation.calendly_metrics import ACTION_SETTLE_SECONDS, ACTIONS
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.foundation.telemetry import get_logger

CALL_AGAIN = timedelta(seconds=10)
"""When a call is made again that was not sent, where no limit holds it back for longer."""

_log = get_logger("actions")


async def keep(pool: Pool, clock: Clock, record: ActionRecord, later: timedelta) -> ActionRecord:
    """Store what is known so far, to be looked at again later.

    Raises:
        ActionElsewhere: another process has it by now.
    """
    kept = replace(record, due_at=clock.now() + later)
    await keep_action(pool, kept)
    return kept


async def hold(pool: Pool, clock: Clock, record: ActionRecord, outcome: CallNotSent) -> ActionRecord:
    """Keep what was not sent: it goes on when the limit that holds it back is over, or soon, if none does.

    Raises:
        ActionElsewhere: another process has it by now.
    """
    now, before = clock.now(), Held.read(record.facts.get("held"))
    kept, facts = replace(record, state="not_sent", reason=outcome.reason), {**record.facts, "held": None}
    if outcome.wait is not None:
        held = held_back(outcome.wait, refused=outcome.refused, before=before, now=now)
        kept = replace(kept, facts={**facts, "held": held.stored()})
        return await keep(pool, clock, kept, max(CALL_AGAIN, held.until - now))
    if before is not None:  # the time of the limit does not count
        facts["asked_at"] = now.isoformat()
    return await keep(pool, clock, replace(kept, facts=facts), CALL_AGAIN)


def books(record: ActionRecord) -> bool:
    """Whether an action's step books, or gives up a slot for which another one is booked next."""
    return record.step in {"book", "restore"} or (record.verb == "reschedule" and record.plan == "cancel_first")


async def booking_wait(pool: Pool, connections: Connections, record: ActionRecord) -> float:
    """Return for how many seconds our own count lets nobody book as an action's user; 0 where it may go on.

    Nothing is called for that, so many that wait for one limit cost no calls.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
    """
    if not books(record):
        return 0.0
    budget = connections.calendly.budgets.of(record.user_uri, CallKind.API)
    return await booking_limits.wait_of_user(pool, record.user_uri, budget.time())


async def settle(pool: Pool, clock: Clock, record: ActionRecord, settled: Settle) -> ActionRecord:
    """Store that an action is over, or waits for its caller or a person, with the event that says so.

    Raises:
        ActionElsewhere: another process has it by now.
    """
    now = clock.now()
    after = replace(record, state=settled.state, reason=settled.reason, evidence=settled.evidence)
    stored = await settle_action(pool, after, settled_event(after, now), now=now)
    ACTIONS.labels(record.verb, settled.state).inc()
    ACTION_SETTLE_SECONDS.labels(record.verb).observe(max((now - record.intended_at).total_seconds(), 0.0))
    told = {"action": str(record.id), "org": record.org, "verb": record.verb, "state": settled.state}
    (_log.warning if settled.state == "person" else _log.info)("action_settled", **told, reason=settled.reason)
    return stored
