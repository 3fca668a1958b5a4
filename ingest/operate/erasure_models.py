"""Erasures in the management API: who asked, how far each is, and how much was erased and ended."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from slotwire.ingest.control.erasure import ErasureRecord
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery

MAX_INVITEES = 100
"""Invitees that one erasure names."""


class ErasureRequest(Model):
    """Erase a person, by their e-mail address or by invitees who are them. It cannot be undone."""

    organization: Org | None = None
    """May be left out by a key that is bound to one."""
    email: str | None = Field(None, min_length=3, max_length=320, pattern=r"^[^\s@]+@[^\s@]+$")
    """The person's address: everything that was booked with it goes. It is not stored."""
    invitees: tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...] = Field((), max_length=MAX_INVITEES)
    """URIs of invitees who are the person, also where their address is not known."""

    @model_validator(mode="after")
    def somebody(self) -> Self:
        """Require an address or an invitee."""
        if self.email is None and not self.invitees:
            raise ValueError("name an e-mail address or an invitee")
        return self


class ErasureReport(Model):
    """How much was erased or ended. A second erasure of the same person counts only what came since."""

    events: int
    """Events of the log that lost data."""
    deliveries: int
    """Bodies that were received."""
    quarantined: int
    """Bodies in quarantine; those that waited are discarded."""
    runs: int
    """Runs of agents that ended."""
    waits: int
    """Waits in these runs."""
    approvals: int
    """Approvals in these runs."""
    dead_letters: int
    """Dead letters that were discarded."""
    queued: int
    """Records that waited for an agent, and are gone."""
    states: int
    """What agents remembered of chains."""
    actions: int
    """Actions whose content is gone; those that waited for a person ended as `not_done`."""
    meetings: int
    """What was last known of upcoming meetings."""


class ErasureItem(Model):
    """An erasure of a person."""

    id: UUID
    organization: str
    state: Literal["open", "done"]
    """`open`: it did not end. Ask for it again."""
    waits_for: Literal["writer", "actions"] | None
    """In the answer of a request that did not end it: the relay has to write what was accepted before, or actions for
    the person are under way. Else null."""
    asked_at: datetime
    """What was booked until then is erased, also where it comes in later."""
    asked_by: str
    done_at: datetime | None
    subjects: int
    """Invitees, contacts and routing form submissions of the person."""
    report: ErasureReport | None
    """Null while it is open."""


class ErasurePage(Page):
    """Erasures."""

    items: tuple[ErasureItem, ...]


class ErasureQuery(PageQuery):
    """Which erasures to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""


def erasure_item(record: ErasureRecord) -> ErasureItem:
    """Show an erasure."""
    return ErasureItem(
        id=record.id,
        organization=record.org,
        state=record.state,
        waits_for=record.waits_for,
        asked_at=record.asked_at,
        asked_by=record.asked_by,
        done_at=record.done_at,
        subjects=record.subjects,
        report=ErasureReport.model_validate(record.report) if record.report else None,
    )
