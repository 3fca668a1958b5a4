"""Models of the management API for settings of shipped agents. Their docstrings are its documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import Field

from slotwire.ingest.operate.agent_settings_pages import AgentSettingsRow
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery


class AgentSettingsQuery(PageQuery):
    """Which settings to list, by id."""

    organization: Org | None = None
    """Only of this organization."""
    agent: str | None = Field(None, min_length=1, max_length=63)
    """Only of this agent, for example `notify`."""


class AgentSettingsRequest(Model):
    """What a shipped agent is to do."""

    agent: str = Field(min_length=1, max_length=63)
    """The agent, for example `notify`."""
    organization: Org | None = None
    """The organization; left out, for all that have no settings of their own."""
    settings: dict[str, Any] = Field(max_length=100)
    """Values by field, secrets among them; null takes one away. Fields that are not named stay as they are. Secrets are
    sealed and never shown again; one must be given again with what says where it goes. The fields of each agent are in
    docs/howto/use-shipped-agents.md."""


class AgentSettingsItem(Model):
    """Settings of a shipped agent, without their secrets."""

    id: UUID
    """Their id."""
    agent: str
    """The agent."""
    organization: str | None
    """The organization; null where they are for all that have none of their own."""
    settings: dict[str, Any]
    """What is set, by field; other fields have the agent's defaults."""
    secrets: tuple[str, ...]
    """The secrets that are set, by field."""
    version: int
    """Grows with each change."""
    changed_at: datetime
    """When they were changed last."""
    changed_by: str
    """Which key or command changed them."""
    disabled_at: datetime | None
    """Since when the agent does not use them, because their receiver is gone. Setting them again ends that."""
    disabled_why: str | None
    """What the agent saw."""


class AgentSettingsPage(Page):
    """Settings of shipped agents."""

    items: tuple[AgentSettingsItem, ...]


def agent_settings_item(row: AgentSettingsRow) -> AgentSettingsItem:
    """Show settings."""
    return AgentSettingsItem(
        id=row.id,
        agent=row.agent,
        organization=row.org or None,
        settings=orjson.loads(row.document),
        secrets=row.secret_names,
        version=row.version,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        disabled_at=row.disabled_at,
        disabled_why=row.disabled_why,
    )
