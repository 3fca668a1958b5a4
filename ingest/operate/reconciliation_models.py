"""Reconciliations in the management API: holes, how far their fetches have come, and what they found."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from slotwire.ingest.control.fetch_progress import FetchProgress, Unprovable
from slotwire.ingest.control.hole_records import HoleRecord
from slotwire.ingest.control.holes import HoleCause
from slotwire.ingest.operate.models import Model, Org, Page, PageQuery

# Written out, so that the OpenAPI document shows the values where they are used.
Cause = Literal[
    HoleCause.SUBSCRIPTION_DISABLED,
    HoleCause.SUBSCRIPTION_GONE,
    HoleCause.RETRYING,
    HoleCause.REFUSED,
    HoleCause.NO_DATABASE,
    HoleCause.UNWATCHED,
    HoleCause.ASKED,
]
Unproven = Literal[
    Unprovable.MARKS_SET_AND_CLEARED,
    Unprovable.MARKS_OUT_OF_REACH,
    Unprovable.MEETINGS_OUT_OF_REACH,
    Unprovable.NEIGHBOURS,
    Unprovable.UPDATES_BETWEEN,
    Unprovable.DELETIONS,
    Unprovable.NOT_READABLE,
]


class ReconciliationRequest(Model):
    """Fetch what an organization may have missed."""

    organization: Org | None = None
    """May be left out by a key that is bound to one."""
    since: AwareDatetime | None = Field(None, strict=True)
    """What happened since then; a day ago when left out. Meetings are read from the look-back before it on."""


class ReconciliationProgress(Model):
    """How far a fetch has come."""

    stage: Literal["meetings", "neighbours", "submissions", "resources", "written"]
    """`written`: all is fetched, and is being written."""
    reached: datetime | None
    """All meetings that start before are fetched."""
    meetings: int
    invitees: int
    calls: int
    """Calls to Calendly."""
    calls_saved: int
    """Meetings whose invitees need not be read, because Calendly counts exactly those that are known."""


class UnreadableItem(Model):
    """A resource that could not be read."""

    uri: str
    reason: str


class UnprovenItem(Model):
    """What no reading can prove."""

    kind: Unproven
    says: str
    """The same in words."""
    count: int
    """0 where nobody can tell how many there are."""
    named: tuple[str, ...]
    """The first of them."""


class ReconciliationReport(Model):
    """What a fetch has found."""

    since: datetime
    """It covers what happened since then."""
    meetings_from: datetime
    """It read meetings that start then or later."""
    began_at: datetime
    ended_at: datetime
    meetings: int
    invitees: int
    calls: int
    """Calls to Calendly."""
    calls_saved: int
    """Meetings whose invitees need not be read, because Calendly counts exactly those that are known."""
    recovered: dict[str, int]
    """How many events were written, by type."""
    known: int
    """Fetched things that were known already."""
    quarantined: int
    """Fetched things that could not be understood; they are in quarantine."""
    skipped: int
    """What could not be read."""
    skipped_named: tuple[UnreadableItem, ...]
    """The first of them."""
    unprovable: tuple[UnprovenItem, ...]


class ReconciliationItem(Model):
    """A hole: a time in which something may have been missed, and its fetch."""

    id: UUID
    organization: str
    cause: Cause
    """Why something may have been missed; `asked` where somebody asked for it."""
    subscription_id: UUID | None
    """Null where it is none's in particular."""
    since: datetime
    """It may have begun then."""
    noticed_at: datetime
    """When it was first noticed."""
    last_noticed_at: datetime
    """When it was last; a fetch that began before does not close it."""
    state: Literal["open", "fetching", "closed"]
    due_at: datetime
    """When its fetch begins or goes on, at the earliest."""
    attempts: int
    """Fetches that failed, or that it outlasted."""
    problem: str | None
    """Why the last one failed."""
    progress: ReconciliationProgress | None
    """Null while none has begun, and when it has ended."""
    report: ReconciliationReport | None
    """Of the last fetch that ended."""
    closed_at: datetime | None


class ReconciliationPage(Page):
    """Reconciliations."""

    items: tuple[ReconciliationItem, ...]


class ReconciliationQuery(PageQuery):
    """Which reconciliations to list, newest first."""

    organization: Org | None = None
    """Only of this organization."""
    ended: bool = False
    """Those that have ended, too."""


def reconciliation_item(hole: HoleRecord) -> ReconciliationItem:
    """Show a hole."""
    return ReconciliationItem(
        id=hole.id,
        organization=hole.org,
        cause=hole.cause,
        subscription_id=hole.subscription_id,
        since=hole.since,
        noticed_at=hole.noticed_at,
        last_noticed_at=hole.last_noticed_at,
        state=hole.state,
        due_at=hole.due_at,
        attempts=hole.attempts,
        problem=hole.problem,
        progress=_progress(FetchProgress.model_validate(hole.progress)) if hole.progress else None,
        report=None if hole.report is None else ReconciliationReport.model_validate(hole.report),
        closed_at=hole.closed_at,
    )


def _progress(progress: FetchProgress) -> ReconciliationProgress:
    return ReconciliationProgress(
        stage=progress.stage.value,
        reached=progress.reached,
        meetings=progress.meetings,
        invitees=progress.invitees,
        calls=progress.calls,
        calls_saved=progress.calls_saved,
    )
