"""Tells subscriptions of what a user keeps: contacts and recaps."""

from __future__ import annotations

from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.model import SimulatedUser


def tell(engine: Engine, event: str, resource: str, payload: bytes, user: SimulatedUser) -> None:
    """Commit, and tell the subscriptions of the user's organization."""
    messages = engine.outbox.write_payload(event, resource, payload, user.organization, None, host=user.id)
    engine.commit()
    engine.sender.submit(messages)
