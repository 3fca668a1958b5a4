"""The fetch that fills an organization's holes: what Calendly has by REST goes in by the door, as webhooks would have.

    meetings ─▶ neighbours ─▶ submissions ─▶ resources ─▶ written ─▶ report

Bookings made in the dark lie in the future by their start, no-shows marked in it in the past. So meetings are read from
a look-back before the hole on, without an end, active and canceled. A fact that is known gets the id that it has, and
makes no second event; so a fetch can be ended at any moment and goes on from what it last kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from slotwire.ingest.control import hole_resources
from slotwire.ingest.control.backfill import PATIENCE_SECONDS, BackfillDoor, BackfillProgress
from slotwire.ingest.control.calendly_client import invitees, routing_form_submissions, routing_forms, scheduled_events
from slotwire.ingest.control.calendly_client.pages import PageRefused
from slotwire.ingest.control.calendly_client.routing_form_submissions import RoutingFormSubmissionResource
from slotwire.ingest.control.calendly_client.scheduled_events import ScheduledEventQuery, ScheduledEventResource
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.control.fetch_plan import SUBMITTED, FetchPlan
from slotwire.ingest.control.fetch_progress import (
    NAMED_OF_A_KIND,
    FetchProgress,
    FetchReport,
    Stage,
    Unprovable,
    progress_of,
    report_of,
)
from slotwire.ingest.control.hole_records import LEASE, HoleClaim, finish, keep
from slotwire.ingest.control.known_bookings import KnownBookings, out_of_reach
from slotwire.ingest.control.meetings import ITS_OWN, MAX_RESTARTS, InviteeReader, every_page, read_document
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.receive.accept import AcceptRow, fetched_resource, fetched_row, until_settled

SLICE_SECONDS = 60.0
"""For how long a fetch goes on while it may keep others waiting; then another organization's has its turn."""
KEEP_AFTER = LEASE / 15
"""How often a claim is kept within a page of meetings."""
MAX_NEIGHBOURS = 500
"""Invitees that are read by their URI in one step, the newest first; what they name is looked for in the next."""
MAX_STEPS = 8
"""Steps as large as that; the report says if there are more."""
NOT_ALLOWED = frozenset({CalendlyProblem.SCOPE, CalendlyProblem.PLAN, CalendlyProblem.PERMISSION})
"""Refusals of a whole list, for which a fetch does not fail: the report says what it could not read."""

_SQL = read_queries("slotwire.ingest.sql", "holes.sql")


class FetchOutcome(StrEnum):
    """How a fetch ended, or part of one."""

    ENDED = "ended"
    """All was fetched; the report is written, and the holes are closed that it covers."""
    TURN_OVER = "turn_over"
    """It goes on when others have had their turn."""
    UNWRITTEN = "unwritten"
    """Nothing writes what was accepted; it goes on later."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How a fetch goes on for a while.

    Attributes:
        report: is told after each meeting.
        patience: seconds to wait for the writer, each time it is waited for.
        seconds: how long the turn is.
    """

    report: Callable[[FetchProgress], None] = lambda _: None
    patience: float = PATIENCE_SECONDS
    seconds: float = SLICE_SECONDS


class HoleFetch:
    """One claim's fetch, from where it was last kept."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        held: HoleClaim,
        calendly: CalendlyTransport,
        *,
        look_back: timedelta,
        plan: FetchPlan,
        turn: Turn,
    ) -> None:
        """Prepare a fetch.

        Args:
            pool: the database.
            clock: gives the times that are written.
            held: the claim; its progress is kept up to date.
            calendly: calls of an owner or admin of the organization, pinned and confirmed.
            look_back: how long before the hole a meeting may have started for its no-shows to be read.
            plan: what to read.
            turn: for how long, and who is told.
        """
        self._pool, self._clock, self._held, self._calendly = pool, clock, held, calendly
        self._plan, self._turn = plan, turn
        self.progress = progress_of(held.progress)
        self.meetings_from = held.fetch_since - look_back
        self.reported: FetchReport | None = None
        self._counted = BackfillProgress()
        self._door = BackfillDoor(pool, held.shard, clock, self._counted, turn.patience)
        self._calls = calendly.calls
        self._kept_at = clock.now()
        self._until = asyncio.get_running_loop().time() + turn.seconds

    async def run(self) -> FetchOutcome:
        """Fetch until all is fetched, the turn is over, or nothing makes room.

        Raises:
            ClaimLost: another process fetches by now.
            CalendlyError: Calendly refused or failed; the fetch goes on from what was kept.
            DatabaseUnavailable: as above.
        """
        stages = {
            Stage.MEETINGS: self._meetings,
            Stage.NEIGHBOURS: self._neighbours,
            Stage.SUBMISSIONS: self._submissions,
            Stage.RESOURCES: self._resources,
        }
        if not self.progress.log_place:
            with translated():
                self.progress.log_place = await self._pool.fetchval(_SQL["log_place"], self._held.shard)
        while (stage := self.progress.stage) is not Stage.WRITTEN:
            outcome = await stages[stage]()
            if outcome is not FetchOutcome.ENDED:
                return outcome
            if not await self._door.flush():
                return FetchOutcome.UNWRITTEN
            self.progress.stage = list(Stage)[list(Stage).index(stage) + 1]
            await self._keep()
        return await self._ended()

    async def _meetings(self) -> FetchOutcome:
        known = KnownBookings(self._pool, self._held.org)
        self.progress.cannot_prove(Unprovable.MARKS_SET_AND_CLEARED)
        self.progress.cannot_prove(Unprovable.MEETINGS_OUT_OF_REACH)
        if not self.progress.place and self.progress.reached is None:
            found, more = await out_of_reach(self._pool, self._held.org, self.meetings_from, NAMED_OF_A_KIND)
            if found:
                self.progress.cannot_prove(Unprovable.MARKS_OUT_OF_REACH, found, more=more)
        for each in self._plan.out_of_reach:
            self.progress.cannot_prove(Unprovable.NOT_READABLE, [each])
        for place in range(self.progress.place, len(self._plan.hosts)):
            outcome = await self._meetings_of(*self._plan.hosts[place], known)
            if outcome is not FetchOutcome.ENDED:
                return outcome
            self.progress.place, self.progress.reached = place + 1, None
            await self._keep()
        return FetchOutcome.ENDED

    async def _meetings_of(self, scope: Scope, subject: str, known: KnownBookings) -> FetchOutcome:
        """Fetch the organization's meetings, or those of one user or group of it."""
        reader = InviteeReader(self._calendly, self.progress.skipped)
        start_from = self.progress.reached or self.meetings_from
        user, group = (subject if scope == kind else None for kind in ("user", "group"))
        hosts = ScheduledEventQuery(self._held.uri, user=user, group=group)
        await known.look(start_from, self._clock.now())
        async for page in every_page(self._calendly, hosts, start_from, self.progress.skipped):
            for meeting in page:
                if not await self._meeting(meeting, known, reader):
                    return FetchOutcome.UNWRITTEN
                self._turn.report(self.progress)
            if not await self._door.flush():
                return FetchOutcome.UNWRITTEN
            if page:
                self.progress.reached = page[-1].start_time
            await self._keep()
            further = self.progress.reached is not None and self.progress.reached > start_from
            if further and asyncio.get_running_loop().time() >= self._until:
                return FetchOutcome.TURN_OVER
            await known.look(self.progress.reached or start_from, self._clock.now())
        return FetchOutcome.ENDED

    async def _meeting(self, meeting: ScheduledEventResource, known: KnownBookings, reader: InviteeReader) -> bool:
        """Fetch a meeting's invitees, unless all of them are known; return whether there was room."""
        self.progress.meetings += 1
        if known.covers(meeting, self._clock.now()):
            self.progress.calls_saved += 1
            return True
        marks = await known.marks(meeting)
        for invitee in await reader.of(meeting):
            self.progress.invitees += 1
            if not await self._put_invitee(invitee, meeting, marks.get(invitee.uri, ())):
                return False
        if self._clock.now() - self._kept_at >= KEEP_AFTER:
            await self._keep()
        return True

    async def _put_invitee(
        self, invitee: invitees.InviteeResource, meeting: ScheduledEventResource, marks: Sequence[str] = ()
    ) -> bool:
        row = fetched_row(
            self._held.org,
            origin="reconcile",
            invitee=invitee.raw,
            scheduled_event=meeting.raw,
            now=self._clock.now(),
            marks=marks,
        )
        return await self._door.put(row)

    async def _neighbours(self) -> FetchOutcome:
        """Read by URI whom a reschedule names and nobody knows, and who is active though replaced."""
        tried: list[str] = []
        while True:
            if not await self._settled():
                return FetchOutcome.UNWRITTEN
            asked = (self._held.org, self._held.fetch_since, MAX_NEIGHBOURS, tried)
            with translated():
                rows = await self._pool.fetch(_SQL["neighbours"], *asked)
            if not rows:
                return FetchOutcome.ENDED
            if len(tried) >= MAX_STEPS * MAX_NEIGHBOURS:
                self.progress.cannot_prove(Unprovable.NEIGHBOURS, [f"more than {len(tried)}"])
                return FetchOutcome.ENDED
            for row in rows:
                tried.append(row["invitee"])
                if not await self._neighbour(row["invitee"]):
                    return FetchOutcome.UNWRITTEN
            await self._keep()

    async def _neighbour(self, uri: str) -> bool:
        """Read one invitee with its meeting; return whether there was room. One that is not shown is reported."""
        try:
            invitee = await invitees.get(self._calendly, uri)
            meeting = await scheduled_events.get(self._calendly, invitee.event)
        except CalendlyError as error:
            if error.problem not in ITS_OWN:
                raise
            self.progress.cannot_prove(Unprovable.NEIGHBOURS, [uri])
            return True
        self.progress.invitees += 1
        return await self._put_invitee(invitee, meeting)

    async def _submissions(self) -> FetchOutcome:
        """Read what was submitted to routing forms since the hole began, where that is subscribed to."""
        if SUBMITTED not in self._plan.events:
            return FetchOutcome.ENDED
        try:
            async for form in routing_forms.every(self._calendly, self._held.uri):
                if not await self._submitted(form.uri):
                    return FetchOutcome.UNWRITTEN
                await self._keep()
        except CalendlyError as error:
            if error.problem not in NOT_ALLOWED:
                raise
            self.progress.cannot_prove(Unprovable.NOT_READABLE, ["routing form submissions"])
        return FetchOutcome.ENDED

    async def _submitted(self, form: str) -> bool:
        restarts = 0
        while True:
            try:
                async for documents in routing_form_submissions.newest_documents(self._calendly, form):
                    for document in documents:
                        read = read_document(RoutingFormSubmissionResource, document, self.progress.skipped)
                        if read is None:
                            continue
                        if read.created_at is not None and read.created_at < self._held.fetch_since:
                            return True
                        row = self._row(SUBMITTED, read.raw)
                        if not await self._door.put(row):
                            return False
            except PageRefused:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
            else:
                return True

    async def _resources(self) -> FetchOutcome:
        """Read contacts, event types and recaps, where they are subscribed to."""
        for kind in hole_resources.KINDS:
            if not kind.events & self._plan.events:
                continue
            self.progress.cannot_prove(Unprovable.UPDATES_BETWEEN, [kind.name])
            found = hole_resources.changes(
                self._pool,
                self._calendly,
                kind,
                org=self._held.org,
                organization=self._held.uri,
                since=self._held.fetch_since,
                plan=self._plan,
                progress=self.progress,
            )
            try:
                async for event, payload, inferred in found:
                    if not await self._door.put(self._row(event, payload, inferred=inferred)):
                        return FetchOutcome.UNWRITTEN
            except CalendlyError as error:
                if error.problem not in NOT_ALLOWED:
                    raise
                self.progress.cannot_prove(Unprovable.NOT_READABLE, [kind.name])
            await self._keep()
        return FetchOutcome.ENDED

    def _row(self, event: str, payload: object, *, inferred: bool = False) -> AcceptRow:
        return fetched_resource(self._held.org, event=event, payload=payload, now=self._clock.now(), inferred=inferred)

    async def _settled(self) -> bool:
        """Have all that was taken written; return whether it is."""
        if not await self._door.finish():
            return False
        self._count()
        if not self.progress.accepted_at:
            return True
        position = self.progress.accepted_at
        return await until_settled(self._pool, self._held.shard, position, seconds=self._turn.patience)

    async def _ended(self) -> FetchOutcome:
        """Write the report once all is written, and close what the fetch covers."""
        if not await self._settled():
            return FetchOutcome.UNWRITTEN
        with translated():
            rows = await self._pool.fetch(_SQL["recovered"], self._held.org, self.progress.log_place)
        now = self._clock.now()
        self.reported = report_of(
            self.progress,
            since=self._held.fetch_since,
            meetings_from=self.meetings_from,
            began_at=self._held.fetch_began_at,
            ended_at=now,
            recovered={row["type"]: row["events"] for row in rows},
        )
        await finish(self._pool, self._held, self.reported.model_dump(mode="json"), now)
        return FetchOutcome.ENDED

    def _count(self) -> None:
        """Take over what the door and the client have counted since the last time."""
        done, progress = self._counted, self.progress
        progress.known += done.known
        progress.quarantined += done.skipped
        progress.accepted_at = max(progress.accepted_at, done.accepted_at)
        progress.calls += self._calendly.calls - self._calls
        done.known, done.skipped, self._calls = 0, 0, self._calendly.calls

    async def _keep(self) -> None:
        self._count()
        self._held.progress = self.progress.model_dump(mode="json")
        now = self._clock.now()
        await keep(self._pool, self._held, now)
        self._kept_at = now
