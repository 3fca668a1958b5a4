"""Pages of the management API: bounded, complete, in order, whatever is written meanwhile."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.cursors import DEFAULT_PAGE, MAX_CURSOR, MAX_PAGE
from slotwire.ingest.operate.models import Page
from slotwire.ingest.operate.routes import ROUTES
from tests.support.management_api import (
    ManagementApi,
    management_api,
    write_deliveries,
    write_events,
    write_organization,
)
from tests.support.public_endpoint import settings_for

LISTS = sorted(
    route.path.format(org="ORG") for route in ROUTES if route.method == "GET" and issubclass(route.gives, Page)
)


async def walk(api: ManagementApi, path: str, *, limit: int) -> list[str]:
    """Follow a list to its end, and return the ids in the order they came."""
    key, found, cursor = await api.key(), list[str](), ""
    while True:
        sign = "&" if "?" in path else "?"
        page = (await api.ask("GET", f"{path}{sign}limit={limit}{cursor}", key)).json()
        assert len(page["items"]) <= limit
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == limit
        cursor = f"&cursor={page['next_cursor']}"


@pytest.mark.parametrize("path", LISTS)
async def test_limits_at_the_edge_and_past_it(path: str, database: Database) -> None:
    """Every list takes 1 to MAX_PAGE items a page and names the parameter when it is asked for anything else."""
    async with management_api(settings_for(database)) as api:
        await write_organization(database, "ORG")
        key = await api.key()
        for limit in (1, MAX_PAGE):
            assert (await api.ask("GET", f"{path}?limit={limit}", key)).status_code == 200
        for wrong in ("0", str(MAX_PAGE + 1), "-1", "many", "", "1e2"):
            refused = await api.ask("GET", f"{path}?limit={wrong}", key)
            assert (refused.status_code, refused.json()["code"]) == (400, "parameter_invalid")
            assert refused.json()["detail"].startswith("limit: ")
        for cursor in ("A" * MAX_CURSOR, "A" * (MAX_CURSOR + 1), "", "%00", "é"):
            refused = await api.ask("GET", f"{path}?cursor={cursor}", key)
            assert refused.status_code == 400
            assert refused.json()["code"] in {"cursor_invalid", "parameter_invalid"}


async def test_a_page_has_a_size_when_none_is_named(database: Database) -> None:
    """Without a limit a page has DEFAULT_PAGE items, and says that there are more."""
    await write_events(database, "ORG", DEFAULT_PAGE + 1)
    async with management_api(settings_for(database)) as api:
        page = (await api.ask("GET", "/v1/events", await api.key())).json()
    assert len(page["items"]) == DEFAULT_PAGE
    assert page["next_cursor"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_of_any_size_give_each_event_once(limit: int, database: Database) -> None:
    """Seven events come once each and in the order of the log, in pages of any size."""
    written = [str(item) for item in await write_events(database, "ORG", 7)]
    async with management_api(settings_for(database)) as api:
        for path in ("/v1/events", "/v1/events?organization=ORG", "/v1/events?subject=" + SUBJECT):
            assert await walk(api, path, limit=limit) == written


SUBJECT = "https://api.calendly.com/scheduled_events/E/invitees/I"


async def test_shards_are_merged_and_none_is_skipped(database: Database) -> None:
    """With several shards each is followed by its own position: a page never jumps over a shard that is behind."""
    await _shards(database, 3)
    written: list[UUID] = []
    for turn in range(6):
        written += await write_events(database, f"ORG{turn % 3}", 1 + turn % 2, shard=turn % 3)
    async with management_api(settings_for(database)) as api:
        for limit in (1, 2, 4):
            assert await walk(api, "/v1/events", limit=limit) == [str(item) for item in written]


async def test_a_shard_that_commits_late_is_not_skipped(database: Database) -> None:
    """A shard may commit a position below what another one has shown already: it comes on the next page."""
    await _shards(database, 2)
    owner = await asyncpg.connect(database.owner_url)
    try:
        reserved = await owner.fetchval("SELECT nextval('slotwire.positions')")
        await write_events(database, "ORG0", 2)
        async with management_api(settings_for(database)) as api:
            key = await api.key()
            page = (await api.ask("GET", "/v1/events?limit=1", key)).json()
            late = UUID(int=77)
            await owner.execute(
                "INSERT INTO slotwire.events (shard, position, event_id, type, org, subject, key, time, recorded_at,"
                " origin, inferred, data)"
                " SELECT 1, $1, $2, type, 'ORG1', subject, key, time, recorded_at, origin, inferred, data"
                " FROM slotwire.events LIMIT 1",
                reserved,
                late,
            )
            rest = (await api.ask("GET", f"/v1/events?cursor={page['next_cursor']}", key)).json()
    finally:
        await owner.close()
    assert page["items"][0]["sequence"] > reserved
    assert str(late) in [item["id"] for item in rest["items"]]


async def test_events_written_meanwhile_come_at_the_end(database: Database) -> None:
    """A list that is followed while events are written gives the new ones too, once, after the old ones."""
    first = await write_events(database, "ORG", 3)
    async with management_api(settings_for(database)) as api:
        key = await api.key()
        page = (await api.ask("GET", "/v1/events?limit=2", key)).json()
        second = await write_events(database, "ORG", 2)
        rest = (await api.ask("GET", f"/v1/events?limit=200&cursor={page['next_cursor']}", key)).json()
    seen = [item["id"] for item in [*page["items"], *rest["items"]]]
    assert seen == [str(item) for item in [*first, *second]]


async def test_after_a_position(database: Database) -> None:
    """`after` gives what follows a position; together with a cursor it is refused."""
    written = await write_events(database, "ORG", 3)
    async with management_api(settings_for(database)) as api:
        key = await api.key()
        items = (await api.ask("GET", "/v1/events", key)).json()["items"]
        after = (await api.ask("GET", f"/v1/events?after={items[0]['sequence']}", key)).json()["items"]
        assert [item["id"] for item in after] == [str(item) for item in written[1:]]
        for position, status in ((2**63 - 1, 200), (2**63, 400), (-1, 400)):
            assert (await api.ask("GET", f"/v1/events?after={position}", key)).status_code == status
        cursor = (await api.ask("GET", "/v1/events?limit=1", key)).json()["next_cursor"]
        both = await api.ask("GET", f"/v1/events?after=1&cursor={cursor}", key)
        assert (both.status_code, both.json()["code"]) == (400, "parameter_invalid")


async def test_filters_of_events(database: Database) -> None:
    """Type, subject and organization narrow the list, alone and together."""
    await write_events(database, "A", 1, subject="https://api.calendly.com/x")
    await write_events(database, "A", 1, type_="com.calendly.invitee.canceled.v1", subject="https://api.calendly.com/x")
    await write_events(database, "B", 1, subject="https://api.calendly.com/y")
    expected = {
        "": 3,
        "organization=A": 2,
        "organization=NOBODY": 0,
        "type=com.calendly.invitee.created.v1": 2,
        "type=com.calendly.invitee.created.v1&organization=A": 1,
        "subject=https://api.calendly.com/x": 2,
        "subject=https://api.calendly.com/x&type=com.calendly.invitee.canceled.v1": 1,
        "subject=https://api.calendly.com/x&organization=A": 2,
        "subject=https://api.calendly.com/x&organization=B": 0,
    }
    async with management_api(settings_for(database)) as api:
        key = await api.key()
        found = {query: len((await api.ask("GET", f"/v1/events?{query}", key)).json()["items"]) for query in expected}
    assert found == expected


async def test_deliveries_are_newest_first_and_filtered(database: Database) -> None:
    """Deliveries come newest first in pages of any size, narrowed by organization, outcome and event."""
    event = UUID(int=42)
    stored = await write_deliveries(database, "ORG", 3, event_id=event)
    kept = await write_deliveries(database, "ORG", 2, outcome="quarantined", first=10)
    other = await write_deliveries(database, "OTHER", 1, outcome="duplicate", event_id=event, first=20)
    newest = [str(item) for item in [*reversed(other), *reversed(kept), *reversed(stored)]]
    async with management_api(settings_for(database)) as api:
        for limit in (1, 2, 6, 7):
            assert await walk(api, "/v1/deliveries", limit=limit) == newest
        for query, expected in (
            ("organization=ORG", newest[1:]),
            ("outcome=quarantined", newest[1:3]),
            (f"event_id={event}", [newest[0], *newest[3:]]),
            (f"event_id={event}&organization=OTHER", newest[:1]),
            ("outcome=duplicate&organization=ORG", []),
        ):
            assert await walk(api, f"/v1/deliveries?{query}", limit=2) == expected


async def test_keys_are_paged_too(database: Database) -> None:
    """Keys made one after the other come once each, oldest first."""
    async with management_api(settings_for(database)) as api:
        for _ in range(4):
            await api.key()
        seen = await walk(api, "/v1/keys", limit=2)
    assert len(seen) == len(set(seen)) == 5


async def test_the_data_of_an_event_comes_byte_by_byte(database: Database) -> None:
    """An event's data is given as it is kept, an integer beyond 64 bits and odd spacing included."""
    data = b'{"id": 123456789012345678901234567890,  "name":"Zo\xc3\xab"}'
    [event] = await write_events(database, "ORG", 1, data=data)
    async with management_api(settings_for(database)) as api:
        response = await api.ask("GET", f"/v1/events/{event}", await api.key())
    assert data in response.content
    assert response.json()["data"]["id"] == 123456789012345678901234567890
    assert response.json()["source"] == "/organizations/ORG"


async def _shards(database: Database, count: int) -> None:
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute("UPDATE slotwire.log SET shards = $1", count)
    finally:
        await owner.close()
