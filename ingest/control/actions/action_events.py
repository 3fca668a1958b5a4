"""The event that is published when it is known what became of an action. Pure."""

from __future__ import annotations

from datetime import datetime

from slotwire.ingest.control.actions.records import ActionRecord
from slotwire.ingest.receive.accept import OwnEvent
from slotwire.schemas.events import ActionSettled
from slotwire.schemas.ids import event_id


def settled_event(record: ActionRecord, now: datetime) -> OwnEvent:
    """Make the event of an action as it becomes; `settlements` is still that of before."""
    number = record.settlements + 1
    data = ActionSettled(
        action_id=record.id,
        organization=record.organization,
        verb=record.verb,
        state=record.state,
        reason=record.reason,
        evidence=record.evidence,
        caller=record.caller,
        idempotency_key=record.key,
        user=record.user_uri,
        target=record.target,
        invitee=record.invitee,
        scheduled_event=record.scheduled_event,
        mark=record.mark,
        intended_at=record.intended_at,
        settled_at=now,
        settlement=number,
    )
    made = event_id(record.organization, "action.settled", str(record.id), str(number))
    return OwnEvent(made, data, subject=record.target, key=record.organization, time=now)
