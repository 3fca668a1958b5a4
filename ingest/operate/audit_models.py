"""What the management API gives of the audit."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.audit import MAX_TEXT, AuditedChange, Result
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.ingest.operate.roles import Role


class AuditQuery(PageQuery):
    """Which changes, newest first."""

    organization: Org | None = None
    """Of one organization."""
    action: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    """Of one action, for example `keys.create`."""
    actor: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    """By one actor: the id of a key, `command line` or `control`."""


class AuditItem(Model):
    """A change, or what was refused of one."""

    id: UUID
    """In order of time."""
    at: datetime
    """When it ended, or began while there is no end."""
    actor: str
    """The id of the key it came with, `command line`, or `control` for chores."""
    role: Role
    organization: str | None
    """Null for all of them, or none."""
    action: str
    """`noun.verb`, for example `keys.create`."""
    target: str | None
    """The id of what it was done to."""
    result: Result
    """`started` until there is an end. It stays so where the process ended in the middle: look at the target."""
    code: str | None
    """Of the refusal or failure."""


class AuditPage(Page):
    """Changes."""

    items: tuple[AuditItem, ...]


def audit_item(told: AuditedChange) -> AuditItem:
    """Show a change."""
    return AuditItem(
        id=told.id,
        at=told.at,
        actor=told.actor,
        role=Role(told.role),
        organization=told.org,
        action=told.action,
        target=told.target,
        result=told.result,
        code=told.code,
    )
