"""Webhook subscriptions of MCP Events in the management API: whose they are, and how they come on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.models import Model, Org, Page, PageQuery

State = Literal["active", "failing", "suspended", "ended"]
"""Delivered; the last try failed, and it is tried again; nothing is sent before the agent's host refreshes it; past its
end, and kept for a day."""
Reason = Literal["connection_refused", "timeout", "tls_error", "http_4xx", "http_5xx", "challenge_failed"]
"""Why a try failed, in the words of MCP Events."""


class McpSubscriptionItem(Model):
    """A webhook subscription of an agent of MCP, without its secret, and without the address but for its host."""

    id: str
    """As in the header `X-MCP-Subscription-Id` of each delivery."""
    agent: UUID
    """The id of the agent that made it."""
    agent_name: str | None
    organization: str
    user: str
    """The URI of the user whom the agent acts for."""
    event_type: str
    arguments: dict[str, Any]
    """What narrows it further."""
    host: str
    """Where its deliveries go."""
    profile: str
    """How that host speaks MCP Events."""
    state: State
    watermark: int
    """Everything up to this position of the log is acknowledged or given up."""
    waiting_since: datetime | None
    """When the first event after the watermark came in that may be one for it; null where there is none. A watermark
    passes events that are not wanted every two minutes."""
    lag_seconds: int
    """How long that is; 0 where nothing waits."""
    gap: bool
    """Whether something was given up that its host has not been told of."""
    tries: int
    """Failed tries of what comes next."""
    next_try_at: datetime | None
    last_delivery_at: datetime | None
    """When something was last acknowledged."""
    last_error: Reason | None
    """Why the last try failed; null where it did not."""
    failed_since: datetime | None
    created_at: datetime
    expires_at: datetime
    """When it ends, unless it is refreshed."""


class McpSubscriptionPage(Page):
    """Webhook subscriptions of agents of MCP."""

    items: tuple[McpSubscriptionItem, ...]


class McpSubscriptionQuery(PageQuery):
    """Which webhook subscriptions of agents of MCP to list, oldest first."""

    organization: Org | None = None
    """Only those of this organization."""
    agent_id: UUID | None = None
    """Only those of this agent of MCP."""
    state: State | None = Field(None)
    """Only those in this state."""
