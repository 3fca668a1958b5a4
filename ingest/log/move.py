"""A move: what the writer knows of a reschedule by an action, which books anew and cancels the old booking. Pure.

Calendly cannot reschedule by its API, so the new invitee names no old one. Before the call an action tells the writer
by the door whom the new invitee will replace and how it is known; its settlement tells that nothing more will come.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from slotwire.ingest.log.delivery import Delivery

INTENDED = "io.slotwire.action.intended"
"""What a delivery of ours calls itself that tells of a move. It becomes no event."""
SKEW = timedelta(seconds=30)
"""By how much Calendly's clock may be behind ours."""


class Move(NamedTuple):
    """One move, as a row of `slotwire.moves`.

    Attributes:
        old_invitee: the invitee that is to be replaced.
        tag: what marks the new booking; None where it carries none.
        event_type: of the new booking.
        start_time: of the new booking.
        person: the digest of its invitee's e-mail address.
        since: when it was intended.
        new_invitee: the invitee that was found to fit; None before.
        ended: nothing came of it, so later cancellations are no part of it.
    """

    action_id: UUID
    org: str
    old_invitee: str
    tag: str | None
    event_type: str
    start_time: datetime
    person: str
    since: datetime
    new_invitee: str | None = None
    ended: bool = False


class MoveFact(NamedTuple):
    """An action is about to reschedule."""

    delivery: Delivery
    move: Move


def read_move(delivery: Delivery, told: dict[str, Any]) -> MoveFact:
    """Read what an action tells, as `receive/accept.py` writes it."""
    start_time = datetime.fromisoformat(told["start_time"])
    move = Move(
        UUID(told["action"]),
        delivery.tenant.org,
        *(told["old_invitee"], told["tag"], told["event_type"], start_time, told["person"]),
        delivery.received_at,
    )
    return MoveFact(delivery, move)
