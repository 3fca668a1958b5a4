"""Uses of credentials in the management API."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import AwareDatetime, Field

from slotwire.ingest.operate.models import Model, Org, Page, PageQuery
from slotwire.ingest.operate.uses import CredentialUse, UseResult

MAX_TEXT = 200
MAX_URI = 2_000


class UsesQuery(PageQuery):
    """Which uses to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    user: str | None = Field(None, min_length=1, max_length=MAX_URI)
    """Only of this user's credential, by its URI."""
    action: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    """Only of this operation, as Calendly's reference calls it, for example `post-invitee`; `lease` for turns."""
    actor: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    """Only on behalf of this actor: the id of a key or of a connect link, `command line` or `control`."""
    agent: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    """Only for this agent."""
    event: UUID | None = None
    """Only for this event."""
    target: str | None = Field(None, min_length=1, max_length=MAX_URI)
    """Only about this, by its URI."""
    email: str | None = Field(None, min_length=3, max_length=320, repr=False)
    """Only calls that named this mail address. It is compared by its keyed hash."""
    since: AwareDatetime | None = Field(None, strict=True)
    """Only from then on."""
    until: AwareDatetime | None = Field(None, strict=True)
    """Only before then."""


class UseItem(Model):
    """A call to Calendly with a customer's credential, or turns of which no call is written."""

    id: UUID
    """In order of time."""
    at: datetime
    """When it ended; while there is no end, when it began."""
    user: str | None
    """The user whose credential it was, by its URI; null for a token about which Calendly was being asked."""
    organization: str | None
    """That user's organization; null while it was not known."""
    connection: UUID | None
    """The connection; null for a token that was not stored yet."""
    action: str
    """The operation, as Calendly's reference calls it; `lease` for turns."""
    target: str | None
    """What it was about, by its URI."""
    people: tuple[str, ...]
    """Keyed hashes of the mail addresses that the call named."""
    actor: str | None
    """On whose behalf: the id of a key or link, `command line`, or `control` for chores; null for turns."""
    agent: str | None
    """The agent that asked for it."""
    event: UUID | None
    """The event that the agent handled, or the call of a tool by which an agent of MCP asked."""
    result: UseResult
    """`done`, `refused` by Calendly, or `failed`: on Calendly's side, or without an answer. `started`: a call that
    changes something has no end yet. `leased`: turns were given, and no call is written yet. If one of these two stays,
    the process ended first, and what it did is not known: of turns, at most `times` calls as this user."""
    status: int | None
    """The HTTP status of the answer."""
    code: str | None
    """Why it was refused or failed."""
    times: int
    """How many calls the row stands for: alike, within a second, each of them reading; of turns how many."""


class UsesPage(Page):
    """Uses of credentials."""

    items: tuple[UseItem, ...]


def use_item(use: CredentialUse) -> UseItem:
    """Show a use."""
    return UseItem(
        id=use.id,
        at=use.at,
        user=use.user,
        organization=use.org,
        connection=use.connection,
        action=use.action,
        target=use.target,
        people=tuple(use.people),
        actor=use.actor,
        agent=use.agent,
        event=use.event,
        result=use.result,
        status=use.status,
        code=use.code,
        times=use.times,
    )
