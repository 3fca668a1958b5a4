"""Agents of MCP in the management API: what each may see and do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.api_keys import MAX_LABEL
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery

MAX_ORGANIZATIONS = 100
MAX_USERS = 1_000
MAX_TOOLS = 200
MAX_TYPES = 100
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
HANDLERS = r"^[a-z][a-z0-9-]{0,62}$"
"""The name of an agent of handlers, as its code has it."""

User = Annotated[str, Field(pattern=r"^https://api\.calendly\.com/users/[A-Za-z0-9_-]{1,200}$")]
"""A user's URI at Calendly."""


EventsProfile = Literal["draft", "chatgpt", "final"]


class McpAgentRequest(Model):
    """An agent to register."""

    name: str = Field(pattern=NAME)
    """Its name: its endpoint is `/mcp/{name}`."""
    organizations: tuple[Org, ...] = Field((), max_length=MAX_ORGANIZATIONS)
    """The organizations whose users it may act for. May be left out by a key that is bound to one."""
    users: tuple[User, ...] = Field((), max_length=MAX_USERS)
    """The users it may act for, by URI; every connected user of these organizations when left out."""
    tools: tuple[Annotated[str, Field(max_length=100)], ...] = Field(("read",), min_length=1, max_length=MAX_TOOLS)
    """Tools by name, or presets: `read`, `schedule` (also books and cancels), `operate` (also reads what an operator
    does). What a preset has is fixed when the agent is registered."""
    event_types: tuple[Annotated[str, Field(max_length=200)], ...] = Field((), max_length=MAX_TYPES)
    """Types of events it may read and subscribe to; all types when left out."""
    profile: EventsProfile = "draft"
    """How its host speaks MCP Events: as the draft of October 2026, as ChatGPT, or as the final text."""
    label: str = Field("", max_length=MAX_LABEL)
    """What it is for."""
    runs_of: str | None = Field(None, pattern=HANDLERS)
    """An agent of yours, by the name in its code: each run of its handlers may get a token, for the chain of bookings
    that it is about, which ends with the run."""


class McpAgentItem(Model):
    """An agent, without its secret."""

    id: UUID
    name: str
    organizations: tuple[str, ...]
    users: tuple[str, ...]
    """Empty: every connected user of the organizations."""
    tools: tuple[str, ...]
    event_types: tuple[str, ...]
    profile: EventsProfile
    label: str
    runs_of: str | None
    """The agent whose handlers' runs may get tokens of it; null: none."""
    created_at: datetime
    revoked_at: datetime | None
    """When it was revoked; null while it works."""
    last_used_at: datetime | None
    """When its secret was last exchanged for a token, to the minute."""


class NewMcpAgent(McpAgentItem):
    """An agent with its secret, which is shown only once."""

    secret: str
    """Exchange it at the token endpoint, as `client_secret` with the agent's name as `client_id`."""


class McpAgentPage(Page):
    """Agents."""

    items: tuple[McpAgentItem, ...]


class McpAgentQuery(PageQuery):
    """Which agents to list, oldest first."""

    organization: Org | None = None
    """Only those of this organization alone."""


class McpTokenRequest(Model):
    """A token to make for an agent."""

    user: User | None = None
    """Whom it acts for; needed if the agent may act for several."""
    chain: UUID | None = None
    """The only chain of bookings it reaches."""


class McpToken(Model):
    """A token, which is shown only once."""

    token: str
    endpoint: str
    """Where it is good."""
    agent: str
    user: str
    expires_at: datetime
