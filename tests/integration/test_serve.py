"""The public endpoint on a real Postgres: what is answered, and what is then in the log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import asyncpg
import orjson
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from slotwire.ingest.foundation.settings import LogSettings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.ids import last_segment
from tests.support.public_endpoint import (
    exchange,
    invitee_body,
    make_hook,
    new_invitee,
    raw_request,
    running_endpoint,
    settings_for,
)
from tests.support.writing import DELIVERIES, write_all


async def rows(database: Database, query: str, *arguments: object) -> list[Any]:
    """Ask the database as its owner."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


async def test_a_signed_delivery_is_committed_before_it_is_answered(database: Database) -> None:
    """A 200 means that the body is committed as it came; the writer makes event, booking and result of it."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    invitee = new_invitee()
    body = invitee_body(invitee=invitee, a_field_of_tomorrow={"kept": True})
    async with running_endpoint(settings) as endpoint:
        response = await endpoint.deliver(hook, body)
    assert response.status_code == 200
    [delivery] = await rows(database, f"SELECT * FROM {DELIVERIES} AS d")
    assert (delivery["body"], delivery["outcome"], delivery["origin"]) == (body, "accepted", "webhook")
    assert await write_all(settings) == 1
    [event] = await rows(database, "SELECT * FROM slotwire.events")
    assert (event["type"], event["subject"]) == ("com.calendly.invitee.created.v1", invitee)
    data = orjson.loads(event["data"])
    assert data["booking"] == {"state": "active", "revision": 1, "no_show": False, "chain_root": invitee}
    assert data["extra"] == {"a_field_of_tomorrow": {"kept": True}}
    [delivery] = await rows(database, f"SELECT * FROM {DELIVERIES} AS d")
    assert (delivery["body"], delivery["outcome"], delivery["event_id"]) == (body, "stored", event["event_id"])
    [booking] = await rows(database, "SELECT * FROM slotwire.bookings")
    assert (booking["state"], booking["revision"], booking["chain_key"]) == ("active", 1, event["key"])


async def test_a_thousand_copies_make_one_event(database: Database) -> None:
    """The same delivery a thousand times over 32 connections is answered 200 each time and written once."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    body = invitee_body()
    async with running_endpoint(settings) as endpoint:
        gate = asyncio.Semaphore(32)

        async def send() -> int:
            async with gate:
                return (await endpoint.deliver(hook, body)).status_code

        answers = await asyncio.gather(*(send() for _ in range(1000)))
    assert set(answers) == {200}
    assert await write_all(settings) == 1
    [count] = await rows(database, "SELECT count(*) AS events FROM slotwire.events")
    assert count["events"] == 1
    outcomes = await rows(database, "SELECT outcome, count(*) AS n FROM slotwire.results GROUP BY 1")
    assert {row["outcome"]: row["n"] for row in outcomes} == {"stored": 1, "duplicate": 999}


async def test_a_cancel_that_comes_first_writes_created_before_it(database: Database) -> None:
    """A story starts with created: inferred from the cancel, and the late original is a duplicate."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    invitee = new_invitee()
    async with running_endpoint(settings) as endpoint:
        for event in ("invitee.canceled", "invitee.created"):
            assert (await endpoint.deliver(hook, invitee_body(event, invitee=invitee))).status_code == 200
    await write_all(settings)
    events = await rows(database, "SELECT type, inferred FROM slotwire.events ORDER BY position")
    assert [(row["type"], row["inferred"]) for row in events] == [
        ("com.calendly.invitee.created.v1", True),
        ("com.calendly.invitee.canceled.v1", False),
    ]
    [booking] = await rows(database, "SELECT state FROM slotwire.bookings")
    assert booking["state"] == "canceled"


async def test_two_halves_of_a_reschedule_make_one_event_on_one_key(database: Database) -> None:
    """In either order of arrival one `rescheduled` is written, and the chain keeps its key."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    for turned in (False, True):
        old, new = new_invitee(), new_invitee()
        halves = [
            invitee_body("invitee.canceled", invitee=old, rescheduled=True, new_invitee=new),
            invitee_body("invitee.created", invitee=new, old_invitee=old),
        ]
        async with running_endpoint(settings) as endpoint:
            assert (await endpoint.deliver(hook, invitee_body(invitee=old))).status_code == 200
            for body in reversed(halves) if turned else halves:
                assert (await endpoint.deliver(hook, body)).status_code == 200
        await write_all(settings)
        events = await rows(
            database, "SELECT type, key FROM slotwire.events WHERE subject = ANY($1) ORDER BY position", [old, new]
        )
        assert len({row["key"] for row in events}) == 1
        assert sorted(row["type"] for row in events) == [
            "com.calendly.invitee.canceled.v1",
            "com.calendly.invitee.created.v1",
            "com.calendly.invitee.created.v1",
            "io.slotwire.invitee.rescheduled.v1",
        ]
        roots = await rows(database, "SELECT chain_root FROM slotwire.bookings WHERE invitee = ANY($1)", [old, new])
        assert {row["chain_root"] for row in roots} == {old}


async def test_an_acknowledgement_is_a_whole_answer_and_keeps_the_connection(database: Database) -> None:
    """Two deliveries over one connection: each is answered by a 200 that says its length and the time."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
        for _ in range(2):
            writer.write(raw_request(hook, invitee_body()))
            async with asyncio.timeout(60):
                line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            found = dict(field.split(": ", 1) for field in fields)
            assert (line, found["Content-Length"]) == ("HTTP/1.1 200 OK", "0")
            said = parsedate_to_datetime(found["Date"])
            assert abs((datetime.now(UTC) - said).total_seconds()) < 60
        writer.close()


@pytest.mark.parametrize(("version", "lines"), [("HTTP/1.0", ()), ("HTTP/1.1", ("Connection: close",))])
async def test_the_connection_is_closed_on_request(version: str, lines: tuple[str, ...], database: Database) -> None:
    """Asked so, or in a version that keeps none: the delivery is answered 200, and the connection ends."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        answer = await exchange(endpoint, raw_request(hook, invitee_body(), *lines, version=version))
    assert answer.split(b" ", 2)[1] == b"200"


@pytest.mark.parametrize(("ratio", "lines"), [(0.0, 0), (1.0, 3)])
async def test_a_share_of_accepted_deliveries_has_a_line(ratio: float, lines: int, database: Database) -> None:
    """At 0 none has a line in the log, at 1 every one: with its organization, and the hook masked."""
    settings = settings_for(database).model_copy(update={"log": LogSettings(accepted_ratio=ratio)})
    hook = await make_hook(settings, database)
    with capture_logs() as logs:
        async with running_endpoint(settings) as endpoint:
            for _ in range(3):
                assert (await endpoint.deliver(hook, invitee_body())).status_code == 200
    said = [line for line in logs if line["event"] == "delivery_accepted"]
    assert len(said) == lines
    assert {line["organization"] for line in said} <= {last_segment(hook.organization)}
    assert hook.path.rsplit("/", 1)[1] not in str(said)


@pytest.mark.parametrize("ratio", [-0.01, 1.01])
def test_a_share_is_from_none_to_all(ratio: float) -> None:
    """A share below 0 or above 1 is refused."""
    with pytest.raises(ValidationError, match="accepted_ratio"):
        LogSettings(accepted_ratio=ratio)
