"""Models of the management API for approvals. Their docstrings are its documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from slotwire.ingest.operate.approval_pages import ApprovalRow
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery

ApprovalState = Literal["open", "approved", "denied", "expired"]


class ApprovalQuery(PageQuery):
    """Which approvals to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    agent: str | None = Field(None, min_length=1, max_length=63)
    """Only of this agent, as in `Agent("crm")`."""
    state: ApprovalState | None = None
    """Only in this state."""


class ApprovalItem(Model):
    """What an agent asks somebody to decide."""

    id: UUID
    """Its id."""
    agent: str
    """The agent that asks."""
    event_id: UUID
    """The event whose run waits for it."""
    name: str
    """As the handler calls it."""
    organization: str
    """The organization of the event."""
    person: str
    """Who is asked, as the agent names them."""
    what: str | None
    """What is to be approved, as JSON, which may be personal data. Null for a key with the role `reader`."""
    digest: str
    """SHA-256 of `what`, in hexadecimal digits. A decision names it."""
    state: ApprovalState
    """`open` until somebody decides, or its time is over."""
    asked_at: datetime
    """When it was asked for."""
    expires_at: datetime
    """From then on nobody can decide."""
    decided_at: datetime | None
    """When it was decided."""
    decided_by: str | None
    """Which key, command or link decided."""


class ApprovalLinkCreated(Model):
    """A link under which a person decides in the browser."""

    approval_id: UUID
    """What it decides about."""
    url: str
    """The address to send to the person who is asked, and to nobody else: whoever has it decides. It is shown once, and
    ends an earlier one."""
    expires_at: datetime
    """When it ends: with the approval, and after 7 days at the latest."""


class ApprovalPage(Page):
    """Approvals."""

    items: tuple[ApprovalItem, ...]


class DecisionRequest(Model):
    """A decision about what an agent asks for."""

    decision: Literal["approve", "deny"]
    """What you decide."""
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The digest of what you have seen: a decision about anything else is refused."""


def approval_item(row: ApprovalRow, *, with_data: bool) -> ApprovalItem:
    """Show an approval, and what is to be approved if the caller may see it."""
    return ApprovalItem.model_validate(
        {
            "id": row.id,
            "agent": row.agent,
            "event_id": row.event_id,
            "name": row.name,
            "organization": row.org,
            "person": row.person,
            "what": row.what if with_data else None,
            "digest": row.digest.hex(),
            "state": row.state,
            "asked_at": row.asked_at,
            "expires_at": row.expires_at,
            "decided_at": row.decided_at,
            "decided_by": row.decided_by,
        }
    )
