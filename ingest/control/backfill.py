"""Backfill: reads existing bookings by REST and appends the events their webhooks would have made.

REST and webhooks describe bookings alike, so an invitee read by REST becomes the same facts with the same event ids:
a booking that a webhook reported before, or reports meanwhile, makes no second event. A backfill that starts after the
subscription exists leaves no gap: earlier bookings are read, later ones are delivered. It cannot see no-shows that
were cleared, or invitees of meetings that start before the time it reads from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from slotwire.ingest.control.calendly_client import invitees, scheduled_events
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport, CallRetries
from slotwire.ingest.errors import DatabaseUnavailable, RowRefused
from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.log.batch import Batch, read_row
from slotwire.ingest.log.join import named
from slotwire.ingest.log.normalize import FetchedSource, InviteeEvent, InviteeFact
from slotwire.ingest.log.outcome import DeliveryOutcome
from slotwire.ingest.receive.verify import Tenant
from slotwire.schemas.calendly import InviteePayload
from slotwire.schemas.ids import OrganizationUri

MAX_TRIES = 10
"""How often facts are joined again because another writer changed their bookings."""
FACTS_AT_ONCE = 100
"""Facts in one commit."""
BACKGROUND_RETRIES = CallRetries(attempts=6, max_wait_seconds=70.0)
"""For work that nobody waits for: Calendly counts requests by the minute, so waits may be that long."""

_STORE = read_queries("slotwire.ingest.sql", "store.sql")
_log = get_logger("backfill")


@dataclass(slots=True)
class BackfillProgress:
    """What a backfill has done so far.

    Attributes:
        meetings: scheduled events read.
        invitees: invitees read.
        new: facts that were new.
        known: facts that were already known.
        skipped: invitees or facts that could not be read or joined; the log says why.
    """

    meetings: int = 0
    invitees: int = 0
    new: int = 0
    known: int = 0
    skipped: int = 0


async def backfill_organization(
    pool: Pool,
    calendly: CalendlyTransport,
    tenant: Tenant,
    *,
    start_from: datetime,
    clock: Clock,
    report: Callable[[BackfillProgress], None] = lambda _: None,
) -> BackfillProgress:
    """Read an organization's scheduled events and invitees, canceled ones too, and append their events.

    Args:
        pool: the database.
        calendly: calls made as an owner or admin of the organization, pinned and confirmed.
        tenant: the organization.
        start_from: reads meetings that start then or later; there is no upper bound.
        clock: gives the times that are written.
        report: called with the progress after each meeting.

    Raises:
        CalendlyError: Calendly refused or failed; what was written stays, and a repetition writes the rest.
        DatabaseUnavailable: as for `CalendlyError`.
    """
    progress, facts = BackfillProgress(), list[InviteeFact]()
    query = scheduled_events.ScheduledEventQuery(
        organization=OrganizationUri(tenant.organization), start_from=start_from
    )
    async for meeting in scheduled_events.every(calendly, query):
        progress.meetings += 1
        async for invitee in invitees.every(calendly, meeting.uri):
            progress.invitees += 1
            facts += _facts(tenant, {**invitee.raw, "scheduled_event": meeting.raw}, clock.now(), progress)
        if len(facts) >= FACTS_AT_ONCE:
            await _append(pool, facts, tenant.shard, clock, progress)
            facts = []
        report(progress)
    await _append(pool, facts, tenant.shard, clock, progress)
    report(progress)
    return progress


def _facts(
    tenant: Tenant, payload_fields: dict[str, object], now: datetime, progress: BackfillProgress
) -> list[InviteeFact]:
    try:
        payload = InviteePayload.model_validate(payload_fields)
    except ValidationError as problem:
        progress.skipped += 1
        issues = problem.errors(include_url=False, include_input=False, include_context=False)
        places = sorted({".".join(map(str, issue["loc"])) for issue in issues})
        _log.warning("invitee_not_understood", organization=tenant.org, places=places[:5])
        return []
    names = [InviteeEvent.CREATED]
    if payload.status == "canceled":
        names.append(InviteeEvent.CANCELED)
    if payload.no_show is not None:
        names.append(InviteeEvent.NO_SHOW_CREATED)
    return [InviteeFact(FetchedSource(ordered_id(now), tenant, now), name, payload, now) for name in names]


async def _append(
    pool: Pool, facts: Sequence[InviteeFact], shard: int, clock: Clock, progress: BackfillProgress
) -> None:
    if not facts:
        return
    with translated():
        async with pool.acquire() as connection:
            for begin in range(0, len(facts), FACTS_AT_ONCE):
                await _append_group(connection, facts[begin : begin + FACTS_AT_ONCE], shard, clock, progress)


async def _append_group(
    connection: Connection, facts: Sequence[InviteeFact], shard: int, clock: Clock, progress: BackfillProgress
) -> None:
    for _ in range(MAX_TRIES):
        wanted = {uri for fact in facts for uri in named(fact.payload)}
        with translated():
            rows = await connection.fetch(_STORE["read_bookings"], list(wanted))
        batch = Batch(facts, {row["invitee"]: read_row(dict(row)) for row in rows})
        arguments = batch.arguments(shard=shard, now=clock.now(), fetched=True)
        try:
            with translated():
                answer = await connection.fetchrow(_STORE["append_batch"], *arguments)
        except RowRefused as problem:
            if len(facts) == 1:
                progress.skipped += 1
                _log.warning("invitee_refused_by_database", sqlstate=problem.sqlstate)
                return
            for fact in facts:
                await _append_group(connection, [fact], shard, clock, progress)
            return
        conflicts = set(answer["conflicts"]) if answer is not None else set()
        again: list[InviteeFact] = []
        for position, fact in enumerate(facts):
            if batch.group(position) in conflicts:
                again.append(fact)
                continue
            refused = batch.quarantined[position]
            if refused is not None:
                progress.skipped += 1
                _log.warning("invitee_not_joined", organization=fact.source.tenant.org, reason=refused.reason)
            elif batch.outcomes[position] is DeliveryOutcome.STORED:
                progress.new += 1
            else:
                progress.known += 1
        if not again:
            return
        facts = again
    raise DatabaseUnavailable("other writers keep changing the same bookings", reason="contention")
