"""Calls that a person makes at Calendly."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.models import Model, Org

MAX_ITEMS = 100_000
"""The most items of a list that one call reads."""


class GrantedCall(Model):
    """One call that an agent asks for, with its grant."""

    operation: str = Field(max_length=200)
    """As Calendly's reference calls it."""
    values: dict[str, list[str]] = Field(default_factory=dict, max_length=50)
    """Values by parameter."""


class McpCall(GrantedCall):
    """One call that an agent of MCP asks for, with its grant."""

    body: dict[str, Any] | None = None
    """The JSON body of an operation whose body is not a flat list of values."""
    limit: int = Field(20, ge=1, le=100)
    """The most items of a page."""
    page: str | None = Field(None, min_length=1, max_length=4_000)
    """Where a list goes on."""


class GrantedAction(Model):
    """One action that an agent asks for, with its grant."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[!-~]+$")
    """The agent's name for it: with the agent and the event it is the action's key."""
    action: dict[str, Any] = Field(max_length=50)
    """What is to be done, without what it is done to: that is the event's."""


class CallRequest(Model):
    """One call of an operation, and as whom."""

    operation: str = Field(max_length=200)
    """As Calendly's reference calls it, for example `list-event-types`."""
    values: dict[str, list[str]] = Field(default_factory=dict)
    """Values by parameter."""
    body: Any = None
    """The JSON body of an operation whose body is not a flat list of values."""
    connection: UUID | None = None
    """The connection to call as."""
    organization: Org | None = None
    """The organization whose best connection is taken."""
    limit: int = Field(100, ge=1, le=MAX_ITEMS)
    """The most items of a list."""
    write: bool = False
    """Whether the call may change something at Calendly."""
    everyone: bool = False
    """Whether a meeting may be canceled that several people have booked."""
