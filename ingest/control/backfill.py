"""Backfill: what Calendly has already, written as if it had told it.

REST and webhooks describe bookings alike, so an invitee that was read becomes the same facts, and the facts the
same event ids: what a webhook told before, or tells meanwhile, is not told twice. Begun after a subscription is
there, it leaves no gap: what is booked before is read, what is booked after is sent. What it cannot see is a
no-show that was cleared, and who was booked into a meeting that starts before the time it reads from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from slotwire.ingest.control.calendly_client import invitees, scheduled_events
from slotwire.ingest.control.calendly_client.transport import RetryPolicy, Transport
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
"""How often facts are joined anew because another writer changed their bookings."""
FACTS_AT_ONCE = 100
"""Facts of one commit."""
PATIENT = RetryPolicy(attempts=6, max_wait_seconds=70.0)
"""Nobody waits, and Calendly counts requests by the minute."""

_STORE = read_queries("slotwire.ingest.sql", "store.sql")
_log = get_logger("backfill")


@dataclass(slots=True)
class Filled:
    """What a backfill has done so far.

    Attributes:
        meetings: scheduled events that were read.
        invitees: invitees that were read.
        new: facts that were not known.
        known: facts that were.
        skipped: facts that could not be read or joined; the log says why.
    """

    meetings: int = 0
    invitees: int = 0
    new: int = 0
    known: int = 0
    skipped: int = 0


async def fill(
    pool: Pool,
    calendly: Transport,
    tenant: Tenant,
    *,
    start_from: datetime,
    clock: Clock,
    report: Callable[[Filled], None] = lambda _: None,
) -> Filled:
    """Read an organization's scheduled events with their invitees, canceled ones too, and append what they tell.

    Args:
        pool: the database.
        calendly: calls of an owner or admin of the organization, pinned and confirmed.
        tenant: the organization.
        start_from: meetings that start then or later; there is no upper bound.
        clock: for what is written.
        report: is told after each meeting.

    Raises:
        CalendlyError: Calendly refused or failed; what was written stays, and a repetition writes the rest.
        DatabaseUnavailable: as above.
    """
    filled, facts = Filled(), list[InviteeFact]()
    wanted = scheduled_events.Wanted(organization=OrganizationUri(tenant.organization), start_from=start_from)
    async for meeting in scheduled_events.every(calendly, wanted):
        filled.meetings += 1
        async for invitee in invitees.every(calendly, meeting.uri):
            filled.invitees += 1
            facts += _facts(tenant, {**invitee.raw, "scheduled_event": meeting.raw}, clock.now(), filled)
        if len(facts) >= FACTS_AT_ONCE:
            await _append(pool, facts, tenant.shard, clock, filled)
            facts = []
        report(filled)
    await _append(pool, facts, tenant.shard, clock, filled)
    report(filled)
    return filled


def _facts(tenant: Tenant, told: dict[str, object], now: datetime, filled: Filled) -> list[InviteeFact]:
    try:
        payload = InviteePayload.model_validate(told)
    except ValidationError as problem:
        filled.skipped += 1
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


async def _append(pool: Pool, facts: Sequence[InviteeFact], shard: int, clock: Clock, filled: Filled) -> None:
    if not facts:
        return
    with translated():
        async with pool.acquire() as connection:
            for begin in range(0, len(facts), FACTS_AT_ONCE):
                await _append_some(connection, facts[begin : begin + FACTS_AT_ONCE], shard, clock, filled)


async def _append_some(
    connection: Connection, facts: Sequence[InviteeFact], shard: int, clock: Clock, filled: Filled
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
                filled.skipped += 1
                _log.warning("invitee_refused_by_database", sqlstate=problem.sqlstate)
                return
            for fact in facts:
                await _append_some(connection, [fact], shard, clock, filled)
            return
        conflicts = set(answer["conflicts"]) if answer is not None else set()
        again: list[InviteeFact] = []
        for position, fact in enumerate(facts):
            if batch.group(position) in conflicts:
                again.append(fact)
                continue
            refused = batch.quarantined[position]
            if refused is not None:
                filled.skipped += 1
                _log.warning("invitee_not_joined", organization=fact.source.tenant.org, reason=refused.reason)
            elif batch.outcomes[position] is DeliveryOutcome.STORED:
                filled.new += 1
            else:
                filled.known += 1
        if not again:
            return
        facts = again
    raise DatabaseUnavailable("their bookings keep changing", reason="contention")
