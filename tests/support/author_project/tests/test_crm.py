"""The author's own tests."""

from __future__ import annotations

from typing import Any

from handlers.crm import agent

from slotwire.handlers.testing import RecordStatus, Trial, event_of
from slotwire.schemas.events import BookingState, InviteeCreated

URI = "https://api.calendly.com/scheduled_events/E/invitees/I"


class Database:
    """A stand-in for the connection."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    async def execute(self, query: str, *args: Any) -> str:
        """Note a statement."""
        self.statements.append(f"{query} {args}")
        return "INSERT 0 1"


async def test_a_booking_is_stored() -> None:
    """A booking becomes a row, in the transaction that marks the event as done."""
    database = Database()
    trial = Trial(agent, connection=database)
    booking = BookingState(state="active", revision=1, chain_root=URI)
    (result,) = await trial.deliver(event_of(InviteeCreated(uri=URI, booking=booking)))
    assert result.status is RecordStatus.DONE
    assert URI in database.statements[0]
