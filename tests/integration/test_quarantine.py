"""What an earlier version could not understand: read again, settled, shown, by command and by HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.models import EventQuery
from slotwire.ingest.operate.quarantine_models import MAX_NOTE
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from slotwire.ingest.receive.accept import accept_through, retry_row
from slotwire.schemas.ids import event_id, last_segment
from tests.support.command import CommandResult, environment, slotwire
from tests.support.management_api import ManagementApi, management_api, write_quarantine
from tests.support.public_endpoint import (
    Endpoint,
    Hook,
    invitee_body,
    make_hook,
    new_invitee,
    running_endpoint,
    settings_for,
)
from tests.support.writing import DELIVERIES, until_written, writing

UNKNOWN = b'{"event":"planet.created","created_at":"2026-11-23T09:00:00Z","payload":{}}'


@dataclass(frozen=True)
class Setup:
    """An endpoint and a management API on one database, with one organization."""

    database: Database
    api: ManagementApi
    endpoint: Endpoint
    hook: Hook
    org: str
    env: dict[str, str]

    async def kept(self, *bodies: bytes, reason: str = "unknown_event", first: int = 1) -> list[UUID]:
        """Leave bodies in quarantine."""
        return await write_quarantine(self.database, self.org, bodies, reason=reason, first=first)

    async def rows(self, table: str) -> list[asyncpg.Record]:
        """Read a whole table as the runtime role."""
        connection = await asyncpg.connect(self.database.runtime_url)
        try:
            return list(await connection.fetch(f"SELECT * FROM slotwire.{table} ORDER BY 1, 2"))
        finally:
            await connection.close()

    async def deliveries(self) -> list[asyncpg.Record]:
        """Read the deliveries with what became of them, in order."""
        connection = await asyncpg.connect(self.database.runtime_url)
        try:
            return list(await connection.fetch(f"SELECT * FROM {DELIVERIES} AS d ORDER BY position"))
        finally:
            await connection.close()

    async def type(self, *arguments: str) -> CommandResult:
        """Run `slotwire quarantine`."""
        return await slotwire("quarantine", *arguments, env=self.env)


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """Everything that looks at one quarantine."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint, management_api(settings) as api, writing(settings):
        yield Setup(database, api, endpoint, hook, last_segment(hook.organization), environment(settings))


async def test_a_retry_gives_the_events_their_right_ids(setup: Setup) -> None:
    """After the upgrade a kept cancellation is two events with the ids of facts; told again it is a duplicate."""
    uri = new_invitee()
    body = invitee_body("invitee.canceled", invitee=uri)
    [kept] = await setup.kept(body)
    item = await setup.api.actions.quarantine.retry(COMMAND_LINE, kept)
    assert (item.state, item.outcome) == ("retried", "stored")
    assert item.settled_at is not None
    created, canceled = await setup.api.actions.events.latest(COMMAND_LINE, EventQuery(subject=uri))
    assert created.id == event_id(setup.hook.organization, "invitee.created", uri)
    assert canceled.id == item.event_id == event_id(setup.hook.organization, "invitee.canceled", uri)
    assert {created.delivery_id, canceled.delivery_id} == {kept}
    [retry] = await setup.deliveries()
    assert (retry["origin"], retry["body"], retry["original"]) == ("retry", None, kept)
    assert retry["event_name"] == "invitee.canceled"
    assert (await setup.endpoint.deliver(setup.hook, body)).status_code == 200
    await until_written(setup.database.owner_url)
    assert [row["outcome"] for row in await setup.deliveries()] == ["stored", "duplicate"]
    assert {row["origin"] for row in await setup.rows("events")} == {"retry"}
    assert len(await setup.rows("events")) == 2


async def test_an_event_written_meanwhile_is_not_written_twice(setup: Setup) -> None:
    """A kept copy of a delivery that came through another way is settled as a duplicate, without an event."""
    body = invitee_body()
    await setup.endpoint.deliver(setup.hook, body)
    await until_written(setup.database.owner_url)
    [kept] = await setup.kept(body)
    item = await setup.api.actions.quarantine.retry(COMMAND_LINE, kept)
    assert (item.state, item.outcome) == ("retried", "duplicate")
    assert len(await setup.rows("events")) == 1


async def test_a_retry_without_its_original_holds_up_nothing(setup: Setup) -> None:
    """What it points at is another organization's, or was removed: nothing comes of it, and what follows is written."""
    [kept] = await write_quarantine(setup.database, "OTHER", [invitee_body()], reason="unknown_event")
    now = datetime.now(UTC)
    rows = [retry_row(setup.org, original, now) for original in (kept, uuid4())]
    await accept_through(setup.api.actions.pool, 0, rows, now=now, seconds=20)
    assert (await setup.endpoint.deliver(setup.hook, invitee_body())).status_code == 200
    await until_written(setup.database.owner_url)
    assert [row["outcome"] for row in await setup.deliveries()] == ["quarantined", "quarantined", "stored"]
    assert [(row["org"], row["state"]) for row in await setup.rows("quarantine")] == [("OTHER", "waiting")]
    assert len(await setup.rows("events")) == 1


async def test_many_retries_at_once_write_once(setup: Setup) -> None:
    """Operators who retry the same delivery at the same moment all see it retried, and its event is there once."""
    [kept] = await setup.kept(invitee_body())
    items = await asyncio.gather(
        *(setup.api.actions.quarantine.retry(COMMAND_LINE, kept) for _ in range(4)),
    )
    assert {(item.state, item.outcome) for item in items} == {("retried", "stored")}
    assert len(await setup.rows("events")) == 1


async def test_a_delivery_that_is_still_unreadable_stays(setup: Setup) -> None:
    """A retry that fails leaves it waiting, with the reason and place it has now, and writes no event."""
    [kept] = await setup.kept(UNKNOWN, reason="too_deep")
    item = await setup.api.actions.quarantine.retry(COMMAND_LINE, kept)
    assert (item.state, item.reason, item.detail) == ("waiting", "unknown_event", "planet.created")
    assert (item.settled_at, item.outcome) == (None, "quarantined")
    assert await setup.rows("events") == []


async def test_what_another_organization_was_told_is_an_event_of_each(setup: Setup) -> None:
    """A booking that another organization was told of becomes, in a retry too, an event of this one."""
    body = invitee_body()
    await setup.endpoint.deliver(setup.hook, body)
    settings = settings_for(setup.database)
    other = await make_hook(settings, setup.database)
    [kept] = await write_quarantine(setup.database, last_segment(other.organization), [body])
    item = await setup.api.actions.quarantine.retry(COMMAND_LINE, kept)
    assert (item.state, item.outcome) == ("retried", "stored")
    assert len({row["org"] for row in await setup.rows("events")}) == 2


async def test_age_does_not_count_and_a_compression_still_does(setup: Setup) -> None:
    """Whoever retries a stale delivery wants it; one that came compressed keeps that reason."""
    [stale] = await write_quarantine(
        setup.database, setup.org, [invitee_body()], reason="stale", signed_before=timedelta(days=9)
    )
    [compressed] = await setup.kept(b"\x1f\x8b", reason="compressed", first=2)
    assert (await setup.api.actions.quarantine.retry(COMMAND_LINE, stale)).state == "retried"
    item = await setup.api.actions.quarantine.retry(COMMAND_LINE, compressed)
    assert (item.state, item.reason) == ("waiting", "compressed")


async def test_a_discard_keeps_the_body_and_says_why(setup: Setup) -> None:
    """Discarded: no longer in the list, its body still there, the first note kept; it can still be retried."""
    body = invitee_body()
    [kept] = await setup.kept(body)
    key, path = await setup.api.key(Role.OPERATOR), f"/v1/quarantine/{kept}"
    first = await setup.api.ask("POST", f"{path}/discard", key, json={"why": "x" * MAX_NOTE})
    again = await setup.api.ask("POST", f"{path}/discard", key, json={"why": "another"})
    assert first.json() == again.json()
    assert (first.json()["state"], first.json()["note"]) == ("discarded", "x" * MAX_NOTE)
    past = await setup.api.ask("POST", f"{path}/discard", key, json={"why": "x" * (MAX_NOTE + 1)})
    assert (past.status_code, past.json()["code"]) == (400, "body_invalid")
    assert (await setup.api.ask("GET", "/v1/quarantine", key)).json()["items"] == []
    [settled] = (await setup.api.ask("GET", "/v1/quarantine?state=discarded", key)).json()["items"]
    assert settled["id"] == str(kept)
    assert (await setup.api.ask("GET", path, key)).json()["body"] == body.decode()
    retried = await setup.api.ask("POST", f"{path}/retry", key)
    assert retried.json()["state"] == "retried"
    late = await setup.api.ask("POST", f"{path}/discard", key, json={"why": "late"})
    assert (late.status_code, late.json()["code"]) == (409, "retried_already")


async def test_a_reader_does_not_see_the_body(setup: Setup) -> None:
    """A reader gets everything but the body; an operator gets text as text, and octets as base64."""
    text, octets = await setup.kept(UNKNOWN, b"\xff\x00")
    reader, operator = await setup.api.key(Role.READER), await setup.api.key(Role.OPERATOR)
    hidden = (await setup.api.ask("GET", f"/v1/quarantine/{text}", reader)).json()
    assert (hidden["reason"], hidden["body"], hidden["encoding"]) == ("unknown_event", None, None)
    shown = (await setup.api.ask("GET", f"/v1/quarantine/{text}", operator)).json()
    assert (shown["body"], shown["encoding"]) == (UNKNOWN.decode(), "utf-8")
    other = (await setup.api.ask("GET", f"/v1/quarantine/{octets}", operator)).json()
    assert (base64.b64decode(other["body"]), other["encoding"]) == (b"\xff\x00", "base64")


async def test_the_list_is_filtered_and_paged(setup: Setup) -> None:
    """By reason and organization, newest first, page by page, each once."""
    mine = await setup.kept(*[UNKNOWN] * 5)
    await setup.kept(b"x", reason="not_json", first=50)
    key, found, cursor = await setup.api.key(), list[str](), ""
    path = f"/v1/quarantine?reason=unknown_event&organization={setup.org}&limit=2"
    while True:
        page = (await setup.api.ask("GET", path + cursor, key)).json()
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [str(each) for each in reversed(mine)]
    assert (await setup.api.ask("GET", "/v1/quarantine?organization=NOBODY", key)).json()["items"] == []


async def test_the_runtime_role_settles_through_the_function_only(setup: Setup) -> None:
    """The processes' role cannot change, add or remove a row of the quarantine or of the deliveries itself."""
    await setup.kept(UNKNOWN)
    connection = await asyncpg.connect(setup.database.runtime_url)
    try:
        for statement in (
            "UPDATE slotwire.quarantine SET state = 'discarded'",
            "DELETE FROM slotwire.quarantine",
            "UPDATE slotwire.results SET outcome = 'stored'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_filter_retries_all_that_wait(setup: Setup) -> None:
    """`retry --all --reason` takes what waits for that reason, in order, and says what became of it."""
    bodies = [invitee_body() for _ in range(3)]
    await setup.kept(*bodies, UNKNOWN)
    await setup.kept(invitee_body(), reason="invalid_payload", first=50)
    ran = await setup.type("retry", "--all", "--reason", "unknown_event")
    assert (ran.code, ran.stderr) == (0, "3 of 4 were read and written to the log; 1 stay: unknown_event\n")
    assert "planet.created" in ran.stdout
    ids = [row["event_id"] for row in await setup.rows("events")]
    payloads = [json.loads(body)["payload"]["uri"] for body in bodies]
    assert ids == [event_id(setup.hook.organization, "invitee.created", uri) for uri in payloads]
    listed = await setup.type("list", "--json")
    assert [json.loads(line)["reason"] for line in listed.stdout.splitlines()] == ["invalid_payload", "unknown_event"]


async def test_the_commands_show_and_settle(setup: Setup) -> None:
    """`show` gives fields and body, `--raw` the octets alone; `discard` and `retry` take ids."""
    octets, wanted = await setup.kept(b'{"a":"\x1b[2J"}', invitee_body())
    shown = await setup.type("show", str(octets))
    assert "unknown_event" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert (await setup.type("show", "--raw", str(octets))).stdout == '{"a":"\x1b[2J"}'
    discarded = await setup.type("discard", str(octets), "--why", "a probe", "--json")
    assert json.loads(discarded.stdout)["note"] == "a probe"
    retried = await setup.type("retry", str(wanted), "--json")
    assert (json.loads(retried.stdout)["state"], retried.code) == ("retried", 0)
    assert "nothing is in quarantine" in (await setup.type("list")).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all",),
        ("--reason", "unknown_event"),
        ("--all", "--reason", "x", "00000000-0000-0000-0000-000000000009"),
        ("--organization", "A", "00000000-0000-0000-0000-000000000009"),
    ],
)
async def test_a_retry_names_what_it_retries(arguments: tuple[str, ...], setup: Setup) -> None:
    """Neither ids nor a whole reason, or both: refused with how to say it."""
    ran = await setup.type("retry", *arguments)
    assert (ran.code, ran.stdout) == (1, "")
    assert "--all --reason" in ran.stderr
