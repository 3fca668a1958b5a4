"""What a batch costs on the wire: a fixed small number of statements, whatever is in it and however much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import orjson
import pytest
from asyncpg.connection import LoggedQuery

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.writer import Writer
from slotwire.ingest.receive.accept import AcceptRow, accept
from tests.support.public_endpoint import invitee_body, make_hook, new_invitee, settings_for

UNIT = 10
"""Deliveries that `mixed` makes at a time."""


def mixed(units: int) -> list[bytes]:
    """Tell, per unit, a booking that moves, a cancel that comes first, no-shows, a contact, and what is unreadable."""
    bodies: list[bytes] = []
    for number in range(units):
        old, new, late, absent = (new_invitee() for _ in range(4))
        mark = {"uri": f"https://api.calendly.com/invitee_no_shows/{uuid4()}", "created_at": "2026-11-23T09:00:01.5Z"}
        contact = {"uri": f"https://api.calendly.com/contacts/{number}", "created_at": "2026-11-23T09:00:00Z"}
        bodies += [
            invitee_body(invitee=old),
            invitee_body("invitee.canceled", invitee=old, rescheduled=True, new_invitee=new),
            invitee_body(invitee=new, old_invitee=old),
            invitee_body("invitee.canceled", invitee=late),
            invitee_body(invitee=late),
            invitee_body("invitee_no_show.created", invitee=absent, no_show=mark),
            invitee_body("invitee_no_show.deleted", invitee=absent, told_at="2026-11-23T09:00:04Z"),
            invitee_body(invitee=absent),
            orjson.dumps({"event": "contact.created", "created_at": "2026-11-23T09:00:00Z", "payload": contact}),
            b"{",
        ]
    assert len(bodies) == units * UNIT
    return bodies


@dataclass(frozen=True)
class Setup:
    """A writer that has taken over, and a door."""

    writer: Writer
    org: str
    owner: asyncpg.Connection[asyncpg.Record]

    async def accept(self, *bodies: bytes) -> None:
        """Let bodies in."""
        now = datetime.now(UTC)
        rows = [AcceptRow(uuid4(), self.org, None, "webhook", now, now, False, "", None, None, each) for each in bodies]
        await accept(self.owner, 0, rows, now=now, seconds=20)

    async def step(self) -> list[LoggedQuery]:
        """Let the writer write once, and return what it asked of the server for it."""
        sent: list[LoggedQuery] = []
        assert self.writer._connection is not None
        with self.writer._connection.query_logger(sent.append):
            await self.writer.step()
            await asyncio.sleep(0)  # the client tells its loggers in the loop's next turn
        return sent


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """A writer whose statements the server knows already."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    owner = await asyncpg.connect(database.owner_url)
    writer = Writer(settings, 0, SystemClock())
    await writer.take_over()
    made = Setup(writer, hook.organization.rpartition("/")[2], owner)
    await made.accept(invitee_body())
    await made.step()
    yield made
    await writer.close()
    await owner.close()


@pytest.mark.parametrize("deliveries", [UNIT, 9 * UNIT])
async def test_a_batch_of_everything_is_four_statements(deliveries: int, setup: Setup) -> None:
    """Ten or ninety deliveries: read them, who of them was erased, and the bookings they name; append what comes."""
    await setup.accept(*mixed(deliveries // UNIT))
    sent = await setup.step()
    statements = [query.query.rpartition("FROM slotwire.")[2].split("\n")[0].strip("( ") for query in sent]
    assert len(statements) == 4
    assert statements[3] == "append"
    units = deliveries // UNIT
    outcomes = await setup.owner.fetch("SELECT outcome, count(*) AS n FROM slotwire.results GROUP BY 1")
    assert {row["outcome"]: row["n"] for row in outcomes} == {
        "stored": 1 + 7 * units,
        "duplicate": 2 * units,
        "quarantined": units,
    }
    events = await setup.owner.fetch("SELECT type, count(*) AS n FROM slotwire.events GROUP BY 1")
    assert Counter({row["type"]: row["n"] for row in events}) == {
        "com.calendly.invitee.created.v1": 1 + 4 * units,
        "com.calendly.invitee.canceled.v1": 2 * units,
        "io.slotwire.invitee.rescheduled.v1": units,
        "com.calendly.invitee_no_show.created.v1": units,
        "com.calendly.invitee_no_show.deleted.v1": units,
        "com.calendly.contact.created.v1": units,
    }


async def test_nothing_to_write_is_one_statement(setup: Setup) -> None:
    """A look at an empty backlog asks once."""
    assert len(await setup.step()) == 1
