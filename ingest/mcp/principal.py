"""Whom a request acts for. One token is for one agent and one connected user, so for one organization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class AgentPrincipal:
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
        profile: the wire profile of MCP Events that its host expects: `draft`, `chatgpt` or `final`.
        of_run: the token is a handler's run's, and ends with it.
    """

    agent: UUID
    name: str
    organization: str
    user: str
    tools: frozenset[str]
    event_types: frozenset[str]
    chain: UUID | None
    expires_at: datetime
    profile: str = "draft"
    of_run: bool = False

    @property
    def identity(self) -> tuple[str, str]:
        """What cursors and subscriptions are bound to: agent and user."""
        return str(self.agent), self.user


class Authority(Protocol):
    """Says what an agent has now: `agents.Agents` asks Postgres."""

    async def now(self, pairs: Sequence[tuple[UUID, str]]) -> Sequence[AgentPrincipal | None]:
        """Return what agents have of users now, in the order of the pairs.

        None: the agent was revoked or never given the user, or the user is gone. Ask before each thing that is sent: a
        revocation is then effective at once. The principals have no chain, and end with the next token that could be
        issued.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        ...


_CURRENT: ContextVar[AgentPrincipal] = ContextVar("principal")


def current_principal() -> AgentPrincipal:
    """Return whom the running request acts for.

    Raises:
        LookupError: no request runs, which is a defect.
    """
    return _CURRENT.get()


@contextmanager
def acting_for(principal: AgentPrincipal) -> Iterator[None]:
    """Run a request for a principal: everything it starts within the block acts for it too."""
    token = _CURRENT.set(principal)
    try:
        yield
    finally:
        _CURRENT.reset(token)
