"""Operations on agents of MCP: who reaches us by the Model Context Protocol, and what each may see and do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from uuid import UUID, uuid4

from slotwire.ingest.errors import ConfigurationError, RequestRefused
from slotwire.ingest.foundation.postgres import read_queries, translated
from slotwire.ingest.operate import mcp_agents
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.cursors import read_time_place, write_time_place
from slotwire.ingest.operate.mcp_agent_models import (
    McpAgentItem,
    McpAgentPage,
    McpAgentQuery,
    McpAgentRequest,
    McpToken,
    McpTokenRequest,
    NewMcpAgent,
)
from slotwire.ingest.operate.mcp_agents import McpAgent
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.schemas.events import BY_TYPE

_SQL = read_queries("slotwire.ingest.sql", "operate.sql")


class McpAgentActions(ResourceActions):
    """Agents of MCP."""

    async def list(self, who: Principal, query: McpAgentQuery) -> McpAgentPage:
        """List agents, oldest first."""
        who.require(Role.READER)
        after = None if query.cursor is None else read_time_place("mcp_agents", query.cursor)
        reach = who.reach(query.organization)
        found = await mcp_agents.page(self.pool, reach, after=after, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_time_place("mcp_agents", (found[-1].created_at, found[-1].id)) if more else None
        return McpAgentPage(items=tuple(map(agent_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, agent: UUID) -> McpAgentItem:
        """Read one agent."""
        who.require(Role.READER)
        return agent_item(await mcp_agents.read(self.pool, agent, who.org))

    async def create(self, who: Principal, request: McpAgentRequest) -> NewMcpAgent:
        """Register an agent. Only this answer shows its secret."""
        async with self.audited(who, "mcp_agents.create", org=next(iter(request.organizations), None)) as entry:
            who.require(Role.ADMIN)
            made = McpAgent(
                id=uuid4(),
                name=request.name,
                orgs=await self._organizations(who, request.organizations),
                users=sorted(set(request.users)),
                tools=_tools(request.tools),
                event_types=_types(request.event_types),
                profile=request.profile,
                label=request.label,
                created_at=self.clock.now(),
                runs_of=request.runs_of,
            )
            entry.target = made.id
            secret = mcp_agents.mint()
            await mcp_agents.create(self.pool, made, secret)
        return NewMcpAgent(**agent_item(made).model_dump(), secret=secret.get_secret_value())

    async def revoke(self, who: Principal, agent: UUID) -> McpAgentItem:
        """Revoke an agent with its tokens, effective at once."""
        async with self.audited(who, "mcp_agents.revoke", org=None, target=agent) as entry:
            who.require(Role.ADMIN)
            revoked = await mcp_agents.revoke(self.pool, agent, who.org, self.clock.now())
            entry.org = revoked.orgs[0] if len(revoked.orgs) == 1 else None
        return agent_item(revoked)

    async def issue(self, who: Principal, name: str, request: McpTokenRequest) -> McpToken:
        """Make a token for an agent, without its secret: for a host that cannot get one by itself.

        Raises:
            RequestRefused: there is no such agent, or it may not act for this user (`user_unknown`).
            ConfigurationError: the keys or the address of the MCP server are not set here.
        """
        from slotwire.ingest.mcp.tokens import TokenKeys  # needs a library that no other command needs

        async with self.audited(who, "mcp_agents.issue", org=None, target=name) as entry:
            who.require(Role.ADMIN)
            who.require_everywhere()
            agent = await mcp_agents.by_name(self.pool, name)
            base = self.settings.mcp.public_url
            if not base:
                raise ConfigurationError(
                    "a token is bound to the address of the MCP server, and none is set",
                    remedy="Set SLOTWIRE_MCP__PUBLIC_URL as `slotwire mcp serve` has it.",
                )
            with translated():
                users = await self.pool.fetch(_SQL["mcp_users_of_agent"], agent.id, request.user, 2)
            if len(users) != 1:
                raise RequestRefused(
                    "this agent may act for several users" if users else "this agent may not act for such a user now",
                    code="user_unknown",
                    remedy="Name one with --user, by the URI that `slotwire connections list` shows.",
                )
            [user] = users
            entry.org = user["org"]
            keys, endpoint = TokenKeys.from_settings(self.settings.mcp), f"{base}/mcp/{agent.name}"
            token, ends = keys.issue(endpoint, agent.id, user["user_uri"], request.chain, self.clock.now())
        return McpToken(token=token, endpoint=endpoint, agent=agent.name, user=user["user_uri"], expires_at=ends)

    async def _organizations(self, who: Principal, asked: Sequence[str]) -> Sequence[str]:
        if asked:
            return sorted({str(who.reach(org)) for org in asked})
        if who.org is not None:
            return [who.org]
        return [(await self.organizations(who).only()).org]


def agent_item(agent: McpAgent) -> McpAgentItem:
    """Show an agent, without its secret."""
    return McpAgentItem(
        id=agent.id,
        name=agent.name,
        organizations=tuple(agent.orgs),
        users=tuple(agent.users),
        tools=tuple(agent.tools),
        event_types=tuple(agent.event_types),
        profile=agent.profile,
        label=agent.label,
        runs_of=agent.runs_of,
        created_at=agent.created_at,
        revoked_at=agent.revoked_at,
        last_used_at=agent.last_used_at,
    )


def _tools(chosen: Sequence[str]) -> Sequence[str]:
    from slotwire.ingest.mcp.tools.every import PRESETS, every_tool, expanded  # makes all tools

    names, unknown = expanded(chosen)
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*every_tool(), *PRESETS], n=3)
        raise RequestRefused(
            f"there is no tool {unknown[0]!r}",
            code="tool_unknown",
            remedy=(f"Near to it: {', '.join(near)}. " if near else "") + f"Presets: {', '.join(PRESETS)}.",
        )
    return names


def _types(chosen: Sequence[str]) -> Sequence[str]:
    if unknown := [each for each in chosen if each not in BY_TYPE]:
        near = ", ".join(difflib.get_close_matches(unknown[0], BY_TYPE, n=3))
        raise RequestRefused(
            f"there is no event type {unknown[0]!r}", code="event_unknown", remedy=f"Near to it: {near or 'none'}."
        )
    return sorted(set(chosen) or BY_TYPE)
