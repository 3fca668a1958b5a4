"""Whom a request acts for. One token is for one agent and one connected user, so for one organization."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Principal:
    """An agent, acting for one user, with what it has been given.

    Cursors and event subscriptions belong to the agent and the user: a renewed token changes neither.

    Attributes:
        agent: the agent as it is registered.
        name: the agent's name, for logs and the audit.
        organization: the URI of the user's organization at Calendly.
        user: the URI of the user at Calendly.
        tools: names of the tools that exist for it.
        event_types: types of events that exist for it.
        chain: the one chain of bookings it may reach; None for all of the user's.
        expires_at: when the token ends, aware, in UTC.
    """

    agent: UUID
    name: str
    organization: str
    user: str
    tools: frozenset[str]
    event_types: frozenset[str]
    chain: UUID | None
    expires_at: datetime

    @property
    def identity(self) -> tuple[str, str]:
        """What cursors and subscriptions are bound to: agent and user."""
        return str(self.agent), self.user
