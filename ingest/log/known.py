"""What is known already of what facts tell: bookings, reschedules by actions, and who was erased. Read per batch."""

from __future__ import annotations

from collections.abc import Sequence

from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.ingest.log.batch import BookingKey, OverdueClear
from slotwire.ingest.log.booking import Booking, booking_of
from slotwire.ingest.log.counts import alarm_shared
from slotwire.ingest.log.erased import Erased, about, erasures_among, guests_of
from slotwire.ingest.log.join import named
from slotwire.ingest.log.move import Move
from slotwire.ingest.log.normalize import Fact, InviteeFact
from slotwire.ingest.log.replacing import Replacing, concerned, tags_in

_SQL = read_queries("slotwire.ingest.sql", "log.sql")


async def read_moves(connection: Connection, facts: Sequence[Fact | OverdueClear]) -> Replacing:
    """Read which reschedules by actions some facts may be part of: nearly always no fact can be of any."""
    orgs, invitees = concerned(facts)
    if not orgs:
        return Replacing()
    with translated():
        rows = await connection.fetch(_SQL["read_moves"], orgs, invitees, tags_in(facts))
    return Replacing(Move(**dict(row)) for row in rows)


async def read_erased(connection: Connection, facts: Sequence[Fact | OverdueClear]) -> Erased:
    """Read which of the people that some facts tell of were erased."""
    asked = list(dict.fromkeys(each for fact in facts for each in (about(fact), *guests_of(fact)) if each is not None))
    if not asked:
        return Erased()
    columns = [each.org for each in asked], [each.subject for each in asked], [each.address for each in asked]
    with translated():
        rows = await connection.fetch(_SQL["erased_among"], *columns)
    return erasures_among(asked, map(dict, rows))


async def read_bookings(connection: Connection, facts: Sequence[Fact | OverdueClear]) -> dict[BookingKey, Booking]:
    """Read the rows that facts are joined with. A booking that another organization was told of is an alarm."""
    wanted: set[BookingKey] = set()
    told: set[BookingKey] = set()
    for each in facts:
        fact = each.fact if isinstance(each, OverdueClear) else each
        if isinstance(fact, InviteeFact):
            org = fact.delivery.tenant.org
            told.add((org, fact.payload.uri))
            wanted.update((org, uri) for uri in (*named(fact.payload), fact.replaces) if uri is not None)
    if not wanted:
        return {}
    keys = sorted(wanted)
    with translated():
        rows = await connection.fetch(_SQL["read_bookings"], [org for org, _ in keys], [invitee for _, invitee in keys])
    known: dict[BookingKey, Booking] = {}
    owners = [*told]
    for row in rows:
        if row["org"] == row["asked"]:
            known[row["org"], row["invitee"]] = booking_of(dict(row))
        elif row["state"] != "named":
            owners.append((row["org"], row["invitee"]))
    alarm_shared(told, owners)
    return known
