"""How far the fetch of a hole has come and what it found: kept with the hole, and told at the end. Pure.

The report says three things: what was recovered, what was skipped because it could not be read, and what no reading can
prove, because only the webhook could have told it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from slotwire.ingest.control.meetings import MAX_NAMED, Skipped, plain_name

NAMED_OF_A_KIND = 20
"""What cannot be proven and is named, of each kind; the rest is counted."""


class Stage(StrEnum):
    """What is fetched, in this order."""

    MEETINGS = "meetings"
    NEIGHBOURS = "neighbours"
    SUBMISSIONS = "submissions"
    RESOURCES = "resources"
    WRITTEN = "written"
    """All is fetched and accepted; what became of it is waited for."""


class Unprovable(StrEnum):
    """What a fetch cannot prove."""

    MARKS_SET_AND_CLEARED = "marks_set_and_cleared"
    """A no-show mark that was set and cleared again while nobody listened: REST shows only what is set."""
    MARKS_OUT_OF_REACH = "marks_out_of_reach"
    """A known mark on a meeting older than the look-back: it may have been cleared."""
    MEETINGS_OUT_OF_REACH = "meetings_out_of_reach"
    """What happened to meetings older than the look-back."""
    NEIGHBOURS = "neighbours"
    """An invitee that another one names as its reschedule, and that Calendly does not show."""
    UPDATES_BETWEEN = "updates_between"
    """Of several updates of a contact, an event type or a recap: all but the last."""
    DELETIONS = "deletions"
    """Resources that are not listed any more, and of which it is not known whether they were deleted."""
    NOT_READABLE = "not_readable"
    """A list that the credential or the plan may not read."""


SAYS = {
    Unprovable.MARKS_SET_AND_CLEARED: "no-show marks that were set and cleared again meanwhile: REST shows what is set",
    Unprovable.MARKS_OUT_OF_REACH: "known no-show marks on meetings before the look-back: they may have been cleared",
    Unprovable.MEETINGS_OUT_OF_REACH: "cancellations and no-shows of meetings that started before the look-back",
    Unprovable.NEIGHBOURS: "invitees that a reschedule names, and that Calendly does not show",
    Unprovable.UPDATES_BETWEEN: "of several updates of one resource meanwhile all but the last",
    Unprovable.DELETIONS: "resources that are not listed any more, and perhaps deleted",
    Unprovable.NOT_READABLE: "lists that the credential or the plan may not read",
}
"""Each in words, as the report says it."""


class Named(BaseModel):
    """Things of a kind: how many, and the first of them."""

    count: int = 0
    named: list[str] = Field(default_factory=list)

    def add(self, name: str) -> None:
        """Count a thing; one that is named already is counted once."""
        name = plain_name(name)
        if name in self.named:
            return
        self.count += 1
        if len(self.named) < NAMED_OF_A_KIND:
            self.named.append(name)


class FetchProgress(BaseModel):
    """How far a fetch has come.

    Attributes:
        stage: what it fetches now.
        place: of those whose meetings are read, the one that it has come to.
        reached: all meetings of it that start before are fetched and accepted; None at the beginning.
        log_place: the position of the log's newest event when the fetch began.
        accepted_at: the position of the last delivery that was accepted; 0 while there is none.
        meetings: meetings that were listed.
        invitees: invitees that were read.
        calls: calls to Calendly.
        calls_saved: meetings whose invitees need not be read, because all of them were known.
        known: fetched deliveries that told nothing new.
        quarantined: fetched deliveries that could not be understood.
        skipped: what could not be read, and why.
    """

    stage: Stage = Stage.MEETINGS
    place: int = 0
    reached: datetime | None = None
    log_place: int = 0
    accepted_at: int = 0
    meetings: int = 0
    invitees: int = 0
    calls: int = 0
    calls_saved: int = 0
    known: int = 0
    quarantined: int = 0
    skipped: Skipped = Field(default_factory=Skipped)
    unprovable: dict[Unprovable, Named] = Field(default_factory=dict[Unprovable, Named])

    def cannot_prove(self, kind: Unprovable, names: Iterable[str] = (), *, more: int = 0) -> None:
        """Note that something of a kind cannot be proven: what is named, and so much more."""
        found = self.unprovable.setdefault(kind, Named())
        for name in names:
            found.add(name)
        found.count += more


def progress_of(kept: dict[str, Any]) -> FetchProgress:
    """Read what was kept; what another version kept otherwise is begun anew, and finds known what was fetched."""
    try:
        return FetchProgress.model_validate(kept)
    except ValidationError:
        return FetchProgress()


class SkippedItem(BaseModel):
    """A resource that could not be read."""

    uri: str
    reason: str


class UnprovableItem(BaseModel):
    """Something that cannot be proven. `count` is 0 where nobody can tell how many there are."""

    kind: Unprovable
    says: str
    count: int
    named: list[str]


class FetchReport(BaseModel):
    """What a fetch has found.

    Attributes:
        since: it covers what happened since then.
        meetings_from: it read meetings that start then or later.
        recovered: how many events were written, by type.
    """

    since: datetime
    meetings_from: datetime
    began_at: datetime
    ended_at: datetime
    meetings: int
    invitees: int
    calls: int
    calls_saved: int
    recovered: dict[str, int]
    known: int
    quarantined: int
    skipped: int
    skipped_named: list[SkippedItem]
    unprovable: list[UnprovableItem]


def report_of(
    progress: FetchProgress,
    *,
    since: datetime,
    meetings_from: datetime,
    began_at: datetime,
    ended_at: datetime,
    recovered: dict[str, int],
) -> FetchReport:
    """Write the report of a fetch that has ended."""
    return FetchReport(
        since=since,
        meetings_from=meetings_from,
        began_at=began_at,
        ended_at=ended_at,
        meetings=progress.meetings,
        invitees=progress.invitees,
        calls=progress.calls,
        calls_saved=progress.calls_saved,
        recovered=recovered,
        known=progress.known,
        quarantined=progress.quarantined,
        skipped=progress.skipped.count,
        skipped_named=[
            SkippedItem(uri=uri, reason=why) for uri, why in list(progress.skipped.named.items())[:MAX_NAMED]
        ],
        unprovable=[
            UnprovableItem(kind=kind, says=SAYS[kind], count=found.count, named=found.named)
            for kind, found in progress.unprovable.items()
        ],
    )
