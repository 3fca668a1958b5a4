"""What a batch costs on the wire: a fixed small number of statements, whatever is in it and however much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import orjson
import pytest
from asyncpg.connection import LoggedQuery

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.normalize import Fact, QuarantineFact, normalize
from slotwire.ingest.log.store import DeliveryResult, Log
from slotwire.ingest.receive.verify import verified_before
from tests.support.booking_histories import START, TENANT, canceled, chain, created, no_shows
from tests.support.public_endpoint import settings_for

UNIT = 10
"""Facts that `mixed` tells at a time."""


def resource(number: int) -> Fact:
    """Tell that a contact was made."""
    payload = {"uri": f"https://api.calendly.com/contacts/{number}", "created_at": "2026-11-23T09:00:00Z"}
    body = orjson.dumps({"event": "contact.created", "payload": payload})
    told = created("contact", 0).source
    return normalize(verified_before(told.id, TENANT, body, received_at=START, signed_at=START, traceparent=None))


def mixed(units: int, first: int) -> list[Fact]:
    """Tell, per unit, a booking that moves, a cancel that comes first, no-shows, a contact, and what is unreadable."""
    facts: list[Fact] = []
    for number in range(first, first + units):
        facts += chain([f"old{number}", f"new{number}"], cancel_last=False)
        facts += [canceled(f"late{number}", 10), created(f"late{number}", 0)]
        facts += no_shows(f"absent{number}")[1:4]
        facts += [resource(number), QuarantineFact(created("unread", 0).source, "not_json")]
    assert len(facts) == units * UNIT
    return facts


@pytest.fixture
async def log(database: Database) -> AsyncIterator[Log]:
    """The writing end of the log, its connection open and its statements known to the server."""
    made = Log(database.runtime_url, settings_for(database).database, 0, SystemClock())
    await made.append([created("first", 0)])
    yield made
    await made.close()


async def statements(
    log: Log, facts: list[Fact], *, trusting: bool = False
) -> tuple[list[DeliveryResult | None], list[LoggedQuery]]:
    """Append facts, and return what the client asked of the server for it."""
    sent: list[LoggedQuery] = []
    assert log._connection is not None
    with log._connection.query_logger(sent.append):
        outcomes = await log.append(facts, trusting=trusting)
        await asyncio.sleep(0)  # the client tells its loggers in the loop's next turn
    return outcomes, sent


@pytest.mark.parametrize("deliveries", [UNIT, 10 * UNIT])
async def test_a_batch_of_everything_is_two_statements(deliveries: int, log: Log, database: Database) -> None:
    """Ten or a hundred deliveries: the rows are read in one statement, and all that comes of them goes in another."""
    facts = mixed(deliveries // UNIT, first=1)
    outcomes, sent = await statements(log, facts)
    assert [query.query.partition("slotwire.")[2].split("\n")[0].strip("( ") for query in sent] == [
        "bookings",
        "append_batch",
    ]
    units = deliveries // UNIT
    assert Counter(each and each.outcome for each in outcomes) == {
        "stored": 8 * units,
        "duplicate": units,
        "quarantined": units,
    }
    assert await written(database) == {
        "com.calendly.invitee.created.v1": 1 + 4 * units,
        "com.calendly.invitee.canceled.v1": 2 * units,
        "io.slotwire.invitee.rescheduled.v1": units,
        "com.calendly.invitee_no_show.created.v1": 2 * units,
        "com.calendly.invitee_no_show.deleted.v1": units,
        "com.calendly.contact.created.v1": units,
    }


async def test_a_new_booking_is_one_statement(log: Log) -> None:
    """A hundred first bookings are taken for new, and nothing is read."""
    outcomes, sent = await statements(log, [created(f"new{number}", 0) for number in range(100)], trusting=True)
    assert (len(sent), {each and each.outcome for each in outcomes}) == (1, {"stored"})


async def written(database: Database) -> Counter[str]:
    """Count the events of each type."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        rows = await connection.fetch("SELECT type, count(*) AS n FROM slotwire.events GROUP BY type")
    finally:
        await connection.close()
    return Counter({row["type"]: row["n"] for row in rows})
