"""Which of the things of agents a page has: dead letters, runs or approvals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AgentFilter:
    """Which rows.

    Attributes:
        org: of one organization; None for all.
        agent: of one agent.
        state: in one state.
    """

    org: str | None = None
    agent: str | None = None
    state: str | None = None
