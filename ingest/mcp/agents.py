"""Agents as they are registered: asked of Postgres for each request, so that a revocation is effective at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.ingest.mcp.tokens import Claims

SECRET = re.compile(r"slwm_[A-Za-z0-9_-]{43}", re.ASCII)
"""The form of an agent's secret: 256 random bits."""
RUN_TOKEN = re.compile(r"slwr_[A-Za-z0-9_-]{43}", re.ASCII)
"""The form of the token of a handler's run: as many."""
CHOICES = 20
"""Users that are named to an agent that has to choose one."""

_SQL = read_queries("slotwire.ingest.sql", "mcp.sql")


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """Who has a secret.

    Attributes:
        id: the agent's id.
        name: the agent's name, which its endpoint ends with.
    """

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Agents:
    """Reads agents as `slotwire_mcp` may."""

    pool: Pool
    clock: Clock
    token_life: timedelta

    async def with_secret(self, secret: str) -> KnownAgent | None:
        """Return the agent that has a secret; None if nobody has it, or the agent was revoked.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        if not SECRET.fullmatch(secret):
            return None
        digest = hashlib.sha256(secret.encode()).digest()
        with translated():
            row = await self.pool.fetchrow(_SQL["mcp_agent_of"], digest, self.clock.now())
        return None if row is None else KnownAgent(row["agent"], row["name"])

    async def users_of(self, agent: UUID, user: str | None) -> Sequence[str]:
        """Return the URIs of the connected users that an agent may act for, at most `CHOICES`; or just one of them.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        return [row["user_uri"] for row in await self._rows(agent, user, CHOICES)]

    async def now(self, pairs: Sequence[tuple[UUID, str]]) -> Sequence[AgentPrincipal | None]:
        """Return what agents have of users now; see `principal.Authority`."""
        agents, users = zip(*pairs, strict=True)
        with translated():
            rows = await self.pool.fetch(_SQL["mcp_now"], agents, users)
        ends, found = self.clock.now() + self.token_life, {row["place"]: row for row in rows}
        return [
            None if (row := found.get(place)) is None else _read(row, agent=agent, chain=None, expires_at=ends)
            for place, (agent, _) in enumerate(pairs, 1)
        ]

    async def behind(self, claims: Claims, name: str) -> AgentPrincipal | None:
        """Return whom a token acts for at the endpoint of an agent; None if it does not any more.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        found = await self._principal(claims)
        return found if found is not None and found.name == name else None

    async def of_run(self, token: str, name: str) -> AgentPrincipal | None:
        """Return whom the token of a handler's run acts for at the endpoint of an agent; None once the run has ended.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        digest = hashlib.sha256(token.encode()).digest()
        with translated():
            row = await self.pool.fetchrow(_SQL["mcp_run_of"], digest, self.clock.now())
        if row is None or row["name"] != name:
            return None
        given = {"agent": row["agent"], "chain": UUID(row["chain"]), "expires_at": row["expires_at"], "of_run": True}
        return _read(row, **given)

    async def _principal(self, claims: Claims) -> AgentPrincipal | None:
        rows = await self._rows(claims.agent, claims.user, 1)
        if not rows:
            return None
        [row] = rows
        return _read(row, agent=claims.agent, chain=claims.chain, expires_at=claims.expires_at)

    async def _rows(self, agent: UUID, user: str | None, most: int) -> Sequence[asyncpg.Record]:
        with translated():
            return await self.pool.fetch(_SQL["mcp_users_of"], agent, user, most)


def _read(row: asyncpg.Record, **more: Any) -> AgentPrincipal:
    return AgentPrincipal(
        name=row["name"],
        organization=row["organization"],
        user=row["user_uri"],
        tools=frozenset(row["tools"]),
        event_types=frozenset(row["event_types"]),
        profile=row["profile"],
        **more,
    )
