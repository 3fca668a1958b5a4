"""A drifted delivery on its whole way: accepted, written, counted by field, and nothing of it in the log's lines."""

from __future__ import annotations

import asyncpg
import orjson
import pytest

from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from tests.support.public_endpoint import invitee_body, make_hook, running_endpoint, settings_for
from tests.support.writing import write_all

FIELDS = ("questions_and_answers.answer", "scheduled_event.location", "name")


def counted() -> list[float]:
    """Return how often each field was counted."""
    return [REGISTRY.get_sample_value("slotwire_drifted_fields_total", {"field": field}) or 0 for field in FIELDS]


async def test_drifted_fields_are_counted_and_not_told(database: Database, capfd: pytest.CaptureFixture[str]) -> None:
    """Two fields of another type and half an emoji: one event, one count each, names and no values in the log.

    A null character, which Postgres has in no text, costs nothing either, wherever a text is kept or looked up.
    """
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    meeting = {
        "uri": "https://api.calendly.com/scheduled_events/E",
        "location": "SECRET-ROOM",
        "event_memberships": [{"user": "host\0"}],
        "event_guests": [{"email": "guest\0"}],
    }
    body = invitee_body(
        invitee=f"{meeting['uri']}/invitees/I",
        name="SECRET-NAME",
        questions_and_answers=[{"question": "Q", "answer": ["SECRET-ANSWER"]}],
        scheduled_event=meeting,
        email="a\0@example.com",
        status="active\0",
        scheduling_method="api",
        tracking={"utm_term": "slotwire-\0"},
    ).replace(b"SECRET-NAME", rb"SECRET-NAME \ud83d")
    before = counted()
    async with running_endpoint(settings) as endpoint:
        assert (await endpoint.deliver(hook, body)).status_code == 200
    assert await write_all(settings) == 1
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1]
    connection = await asyncpg.connect(database.owner_url)
    data = orjson.loads(await connection.fetchval("SELECT data FROM slotwire.events"))
    await connection.close()
    assert data["name"] == "SECRET-NAME \ufffd"
    assert data["questions_and_answers"][0]["extra"] == {"answer": ["SECRET-ANSWER"]}
    assert data["scheduled_event"]["extra"] == {"location": "SECRET-ROOM"}
    shown = "".join(capfd.readouterr())
    assert "fields_drifted" in shown
    assert "SECRET" not in shown
