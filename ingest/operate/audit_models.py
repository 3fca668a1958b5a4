"""The audit in the management API."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.audit import MAX_TEXT, AuditedChange, Result
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.ingest.operate.roles import Role


class AuditQuery(PageQuery):
    """Which changes to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    action: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    """Only this action, for example `keys.create`."""
    actor: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    """Only by this actor: the id of a key, of a connect link or of an approval's link, `command line` or `control`."""


class AuditItem(Model):
    """A change, or a refused attempt at one."""

    id: UUID
    """In order of time."""
    at: datetime
    """When it ended; while there is no end, when it started."""
    actor: str
    """The id of the key, `command line`, `control` for chores, or the id of the link by which a customer consented or
    a person decided."""
    role: Role
    organization: str | None
    """Null for all organizations, or none."""
    action: str
    """`noun.verb`, for example `keys.create`."""
    target: str | None
    """The id of what was changed."""
    result: Result
    """`started` until there is an end. If the process ended in the middle, it stays `started`: check the target."""
    code: str | None
    """The code of the refusal or failure."""
    times: int
    """How often: more than 1 in a row that stands for refusals past the first ones of a key, which have no row each."""


class AuditPage(Page):
    """Changes."""

    items: tuple[AuditItem, ...]


def audit_item(change: AuditedChange) -> AuditItem:
    """Show a change."""
    return AuditItem(
        id=change.id,
        at=change.at,
        actor=change.actor,
        role=Role(change.role),
        organization=change.org,
        action=change.action,
        target=change.target,
        result=change.result,
        code=change.code,
        times=change.times,
    )
