"""Two organizations whose deliveries name each other's invitees, through the door and the writer on a real server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import orjson
import pytest

from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.schemas.ids import chain_key, last_segment
from tests.support.public_endpoint import Hook, invitee_body, make_hook, running_endpoint, settings_for
from tests.support.writing import write_all

URI = "https://api.calendly.com/scheduled_events/{0}/invitees/{0}2"
A, B = URI.format("AAAAAAAA"), URI.format("BBBBBBBB")
MARK = {"uri": "https://api.calendly.com/invitee_no_shows/N", "created_at": "2026-11-23T09:00:01Z"}
DELIVERIES: dict[str, tuple[int, bytes]] = {
    "A created": (0, invitee_body(invitee=A)),
    "B created, naming A's": (1, invitee_body(invitee=B, old_invitee=A)),
    "B created": (1, invitee_body(invitee=B)),
    "A canceled, naming B's": (0, invitee_body("invitee.canceled", invitee=A, new_invitee=B, rescheduled=True)),
    "B canceled, naming A's": (1, invitee_body("invitee.canceled", invitee=B, old_invitee=A)),
    "B marked": (1, invitee_body("invitee_no_show.created", invitee=B, old_invitee=A, no_show=MARK)),
}
ORDERS = [
    ("A created", "B created, naming A's", "A canceled, naming B's", "B canceled, naming A's", "B marked"),
    ("A created", "A canceled, naming B's", "B created", "B canceled, naming A's", "B marked"),
]
"""Which organization tells what, in the order in which it is delivered."""
EVENTS = """
SELECT e.event_id, e.type, e.subject, e.key, e.time, e.data, e.inferred, e.origin FROM slotwire.events AS e
WHERE e.org = $1 ORDER BY e.position
"""


async def write(hooks: Sequence[Hook], settings: Any, told: Sequence[str]) -> None:
    """Deliver and write one after the other."""
    async with running_endpoint(settings) as endpoint:
        for name in told:
            which, body = DELIVERIES[name]
            assert (await endpoint.deliver(hooks[which], body)).status_code == 200
            await write_all(settings)


def alarms() -> float:
    """Return how many deliveries were about another organization's booking."""
    return REGISTRY.get_sample_value("slotwire_cross_tenant_total") or 0


@pytest.mark.parametrize("order", ORDERS, ids=["link first", "named first"])
async def test_two_organizations_that_name_each_others_invitees(order: Sequence[str], database: Database) -> None:
    """Each has events, bookings and a key of its own, and none of the other; nothing is quarantined."""
    settings, before = settings_for(database), alarms()
    ours, theirs = await make_hook(settings, database), await make_hook(settings, database)
    await write((ours, theirs), settings, order)
    assert alarms() == before
    connection = await asyncpg.connect(database.owner_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM slotwire.quarantine") == 0
        for hook, own in ((ours, A), (theirs, B)):
            org = last_segment(hook.organization)
            events = await connection.fetch(EVENTS, org)
            kinds = [each["type"].split(".", 2)[2] for each in events]
            marked = ["invitee_no_show.created.v1"] if hook is theirs else []
            assert kinds == ["invitee.created.v1", "invitee.canceled.v1", *marked]
            assert {each["subject"] for each in events} == {own}
            assert {each["key"] for each in events} == {chain_key(hook.organization, own)}
            assert orjson.loads(events[-1]["data"])["booking"]["state"] == "canceled"
            states = await connection.fetch("SELECT invitee, state FROM slotwire.bookings WHERE org = $1", org)
            neighbour = B if hook is ours else A
            assert {each["invitee"]: each["state"] for each in states} == {own: "canceled", neighbour: "named"}
    finally:
        await connection.close()


async def test_a_booking_of_two_organizations_is_an_alarm_in_one_batch_too(database: Database) -> None:
    """Neither is in the log when the batch is read: both deliveries are counted all the same."""
    settings, before = settings_for(database), alarms()
    hooks = [await make_hook(settings, database) for _ in range(2)]
    async with running_endpoint(settings) as endpoint:
        for hook in hooks:
            assert (await endpoint.deliver(hook, DELIVERIES["A created"][1])).status_code == 200
    assert await write_all(settings) == 2
    assert alarms() == before + 2
