"""Agents of MCP as they are stored: their secret is shown once, and kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import SecretStr

from slotwire.ingest.errors import RequestRefused, RowRefused
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.api_keys import KEY_BYTES

PREFIX = "slwm_"
"""Lets secret scanners and people recognize an agent's secret."""
_SQL = read_queries("slotwire.ingest.sql", "operate.sql")


@dataclass(frozen=True, slots=True)
class McpAgent:
    """A row; `mcp_agent_models.McpAgentItem` says what each column means."""

    id: UUID
    name: str
    orgs: Sequence[str]
    users: Sequence[str]
    tools: Sequence[str]
    event_types: Sequence[str]
    profile: Literal["draft", "chatgpt", "final"]
    label: str
    created_at: datetime
    runs_of: str | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


def mint() -> SecretStr:
    """Make a secret."""
    return SecretStr(PREFIX + encode_base64url(secrets.token_bytes(KEY_BYTES)))


async def create(pool: Pool, agent: McpAgent, secret: SecretStr) -> None:
    """Store an agent with the hash of its secret.

    Raises:
        RequestRefused: the name is taken (`name_taken`), or an organization is not known (`organization_unknown`).
    """
    digest = hashlib.sha256(secret.get_secret_value().encode()).digest()
    row = (agent.id, agent.name, digest, agent.orgs, agent.users, agent.tools, agent.event_types)
    try:
        with translated():
            stored = await pool.fetchval(
                _SQL["insert_mcp_agent"], *row, agent.profile, agent.label, agent.created_at, agent.runs_of
            )
    except RowRefused as error:
        raise RequestRefused(
            "an agent has this name already",
            code="name_taken",
            remedy="Choose another; a revoked agent keeps its name.",
        ) from error
    if stored is None:
        raise RequestRefused(
            "there is no such organization",
            code="organization_unknown",
            remedy="Name those that `slotwire organizations list` shows.",
        )


async def page(pool: Pool, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int) -> tuple[McpAgent, ...]:
    """List agents, oldest first; those of one organization alone, or all."""
    time, last = after or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["mcp_agents_page"], org, time, last, limit)
    return tuple(McpAgent(**dict(row)) for row in rows)


async def read(pool: Pool, agent: UUID, org: str | None) -> McpAgent:
    """Read one agent.

    Raises:
        RequestRefused: there is none within reach.
    """
    with translated():
        row = await pool.fetchrow(_SQL["mcp_agent"], agent, org)
    return _found(None if row is None else McpAgent(**dict(row)))


async def by_name(pool: Pool, name: str) -> McpAgent:
    """Read the agent of a name.

    Raises:
        RequestRefused: there is none.
    """
    with translated():
        row = await pool.fetchrow(_SQL["mcp_agent_named"], name)
    return _found(None if row is None else McpAgent(**dict(row)))


async def revoke(pool: Pool, agent: UUID, org: str | None, now: datetime) -> McpAgent:
    """Revoke an agent with its tokens, effective at once. A second time changes nothing.

    Raises:
        RequestRefused: there is none within reach.
    """
    with translated():
        row = await pool.fetchrow(_SQL["revoke_mcp_agent"], agent, org, now)
    return _found(None if row is None else McpAgent(**dict(row)))


def _found(agent: McpAgent | None) -> McpAgent:
    if agent is None:
        raise RequestRefused(
            "there is no such agent", code="not_found", remedy="`slotwire mcp agents list` shows the agents there are."
        )
    return agent
