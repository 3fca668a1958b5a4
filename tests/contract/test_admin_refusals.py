"""Refusals at the management API: slow for whoever guesses, counted for whoever repeats, and no harm to good keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import audit
from slotwire.ingest.operate.admin_api import Limits
from slotwire.ingest.operate.api_keys import mint
from slotwire.ingest.operate.idempotency import HEADER, MAX_STORED
from slotwire.ingest.operate.refusals import ROWS
from slotwire.ingest.operate.roles import Role
from tests.support.blocked import HELD_UP, until_blocked
from tests.support.management_api import ManagementApi, management_api
from tests.support.public_endpoint import settings_for


@pytest.fixture
async def api(database: Database) -> AsyncIterator[ManagementApi]:
    """The API."""
    async with management_api(settings_for(database)) as running:
        yield running


async def rows(api: ManagementApi) -> list[asyncpg.Record]:
    """Return the audit's rows of keys, oldest first."""
    return list(
        await api.actions.pool.fetch(
            "SELECT action, result, code, times, actor FROM slotwire.audit WHERE actor <> 'command line' ORDER BY id"
        )
    )


@asynccontextmanager
async def patient_api(database: Database, **limits: int) -> AsyncIterator[ManagementApi]:
    """Run the API with refusals that wait until the block ends."""
    over = asyncio.Event()

    async def pause(_: float) -> None:
        await over.wait()

    async with management_api(settings_for(database), limits=Limits(**limits, pause=pause)) as api:
        try:
            yield api
        finally:
            over.set()


async def test_past_the_limit_a_bad_key_waits_and_a_good_one_does_not(database: Database) -> None:
    """From one address: as many refusals as are free, then one that waits, then 429; a good key is served meanwhile."""
    async with patient_api(database, refusals=3, refusals_waiting=1) as api, asyncio.TaskGroup() as group:
        good = await api.key(Role.READER)
        for _ in range(3):
            assert (await api.ask("GET", "/v1/events", mint().get_secret_value())).status_code == 401
        two = [group.create_task(api.ask("GET", "/v1/events", mint().get_secret_value())) for _ in range(2)]
        [full], [waits] = await asyncio.wait(two, return_when=asyncio.FIRST_COMPLETED)
        assert (full.result().status_code, full.result().json()["code"]) == (429, "too_many_refusals")
        assert "Retry-After" in full.result().headers
        assert (await api.ask("GET", "/v1/events", good)).status_code == 200
        never_seen_before = await api.key(Role.READER)
        assert (await api.ask("GET", "/v1/events", never_seen_before)).status_code == 200
        assert not waits.done()
        waits.cancel()


async def test_a_flood_of_unknown_keys_takes_no_place(database: Database) -> None:
    """While more unknown keys wait for their refusal than requests may run, a good key's request runs."""
    async with (
        patient_api(database, running=1, refusals=0, refusals_waiting=100) as api,
        asyncio.TaskGroup() as group,
    ):
        good = await api.key(Role.READER)
        flood = [group.create_task(api.ask("GET", "/v1/events", mint().get_secret_value())) for _ in range(50)]
        answers = [await api.ask("GET", "/v1/events", good) for _ in range(5)]
        assert not any(task.done() for task in flood)
        for task in flood:
            task.cancel()
    assert {answer.status_code for answer in answers} == {200}


async def test_the_pool_of_running_requests_is_not_that_of_keys(database: Database) -> None:
    """While every connection of the pool is taken, a key is recognized all the same."""
    async with management_api(settings_for(database)) as api:
        key, bad = await api.key(Role.READER), mint().get_secret_value()
        size = settings_for(database).database.pool_size
        taken = [await api.actions.pool.acquire() for _ in range(size)]
        try:
            assert await api.actions.callers.recognize(key) is not None
            assert (await api.ask("GET", "/v1/events", bad)).status_code == 401
        finally:
            for connection in taken:
                await api.actions.pool.release(connection)


async def test_a_readers_refused_changes_are_counted(api: ManagementApi) -> None:
    """Five hundred: ROWS of them have a row each, one row has the number of the others, and none is lost."""
    reader, other = await api.key(Role.READER), await api.key(Role.READER)
    for _ in range(500):
        response = await api.ask("POST", "/v1/keys", reader, json={"role": "reader"})
        assert (response.status_code, response.json()["code"]) == (403, "role_too_low")
    assert (await api.ask("DELETE", f"/v1/keys/{uuid4()}", other)).status_code == 403
    before = await rows(api)
    assert {row["times"] for row in before} == {1}
    written = await audit.write_counts(api.actions.pool, api.actions.refusals, now=SystemClock().now())
    assert written == 1
    found = await rows(api)
    assert len(found) == len(before) + 1 < 500 / 4
    assert len(before) - 1 >= ROWS
    assert sum(row["times"] for row in found) == 501
    assert (found[-1]["action"], found[-1]["result"], found[-1]["code"]) == ("keys.create", "refused", "role_too_low")
    assert await audit.write_counts(api.actions.pool, api.actions.refusals, now=SystemClock().now()) == 0


async def test_a_caller_of_the_right_role_is_held_too(api: ManagementApi) -> None:
    """After ROWS refusals a key's changes are 429, with a time to wait, before anything is done; reading goes on.

    Other keys are not held. The same request, under the same name, is carried out after that time.
    """
    admin, other = await api.key(), await api.key()
    api.actions.refusals.now = lambda: 1000.0
    for _ in range(ROWS):
        assert (await api.ask("DELETE", f"/v1/keys/{uuid4()}", admin)).status_code == 404
    held = await api.ask("POST", "/v1/keys", admin, json={"role": "reader"}, headers={HEADER: "once"})
    assert (held.status_code, held.json()["code"], "Retry-After" in held.headers) == (429, "too_many_refusals", True)
    assert await api.actions.pool.fetchval("SELECT count(*) FROM slotwire.api_keys") == 2
    assert (await api.ask("GET", "/v1/keys", admin)).status_code == 200
    assert (await api.ask("POST", "/v1/keys", other, json={"role": "reader"})).status_code == 201
    await audit.write_counts(api.actions.pool, api.actions.refusals, now=SystemClock().now())
    counted = [(row["action"], row["code"], row["times"]) for row in await rows(api) if row["code"] != "not_found"]
    assert ("keys.create", "too_many_refusals", 1) in counted
    later = 1000.0 + 60
    api.actions.refusals.now = lambda: later
    again = await api.ask("POST", "/v1/keys", admin, json={"role": "reader"}, headers={HEADER: "once"})
    assert again.status_code == 201


async def test_counts_that_cannot_be_written_are_kept(api: ManagementApi, database: Database) -> None:
    """While the audit takes no row nothing is forgotten; then it is written."""
    reader = await api.key(Role.READER)
    for _ in range(ROWS + 5):
        await api.ask("DELETE", f"/v1/keys/{uuid4()}", reader)
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute(
            "CREATE FUNCTION slotwire.full() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$"
        )
        await owner.execute(
            "CREATE TRIGGER full_ BEFORE INSERT ON slotwire.audit FOR EACH ROW EXECUTE FUNCTION slotwire.full()"
        )
        with pytest.raises(DatabaseUnavailable):
            await audit.write_counts(api.actions.pool, api.actions.refusals, now=SystemClock().now())
        await audit.write_counts_or_log(api.actions.pool, SystemClock(), api.actions.refusals)
        await owner.execute("DROP TRIGGER full_ ON slotwire.audit")
    finally:
        await owner.close()
    await audit.write_counts_or_log(api.actions.pool, SystemClock(), api.actions.refusals)
    assert sum(row["times"] for row in await rows(api)) == ROWS + 5


async def test_the_command_shows_how_often(api: ManagementApi) -> None:
    """A row of several refusals says so."""
    reader = await api.key(Role.READER)
    api.actions.refusals.rows = 0
    for _ in range(3):
        await api.ask("DELETE", f"/v1/keys/{uuid4()}", reader)
    await audit.write_counts(api.actions.pool, api.actions.refusals, now=SystemClock().now())
    listed = (await api.ask("GET", "/v1/audit", await api.key())).json()["items"]
    assert [item["times"] for item in listed if item["action"] == "keys.revoke"] == [3]


async def test_nothing_personal_is_in_the_audit(api: ManagementApi) -> None:
    """Names, addresses and tokens in paths, labels, reasons and external ids: done or refused, no row has them."""
    admin, reader = await api.key(), await api.key(Role.READER)
    who = "zoe.quill@example.com"
    for key in (admin, reader):
        for method, path, body in (
            ("DELETE", f"/v1/organizations/{who}", None),
            ("DELETE", f"/v1/keys/{who}", None),
            ("PATCH", f"/v1/organizations/{who}", {"external_id": who}),
            ("PATCH", "/v1/organizations/ORG", {"external_id": who}),
            ("POST", f"/v1/organizations/{who}/connections", {"token": who}),
            ("POST", "/v1/organizations", {"token": who, "external_id": who}),
            ("POST", f"/v1/quarantine/{uuid4()}/discard", {"why": who}),
            ("POST", "/v1/keys", {"role": "reader", "label": who}),
        ):
            await api.ask(method, path, key, json=body)
    text = await api.actions.pool.fetchval("SELECT string_agg(a::text, ' ') FROM slotwire.audit a")
    assert "example" not in text
    assert "quill" not in text
    assert {row["result"] for row in await rows(api)} >= {"refused", "done", "failed"}


async def test_a_callers_stored_responses_are_bounded(database: Database) -> None:
    """Of three at once the last that fits is taken, two are 429; a known name, and another caller, are served."""
    settings = settings_for(database).model_copy(update={"database": HELD_UP})
    async with management_api(settings) as api:
        admin, other = await api.key(), await api.key()
        key_id: UUID = await api.actions.pool.fetchval(
            "SELECT id FROM slotwire.api_keys WHERE hash = sha256(convert_to($1, 'UTF8'))", admin
        )
        await api.actions.pool.execute(
            "INSERT INTO slotwire.idempotent_answers (key_id, idempotency_key, claim, fingerprint, created_at)"
            " SELECT $1, 'kept' || n, gen_random_uuid(), '', now() FROM generate_series(1, $2) n",
            key_id,
            MAX_STORED - 1,
        )
        body = {"role": "reader"}
        names = ("one", "two", "three")
        asked = [api.ask("POST", "/v1/keys", admin, json=body, headers={HEADER: name}) for name in names]
        owner = await asyncpg.connect(database.owner_url)
        await owner.execute(
            "CREATE FUNCTION slotwire.wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN new; END';"
            "CREATE TRIGGER wait BEFORE INSERT ON slotwire.idempotent_answers FOR EACH ROW"
            " EXECUTE FUNCTION slotwire.wait()"
        )
        async with asyncio.TaskGroup() as group, owner.transaction():
            # Until all have counted, or wait for whoever does.
            await owner.execute("SELECT pg_advisory_xact_lock(1)")
            at_once = [group.create_task(each) for each in asked]
            await until_blocked(owner, len(at_once))
        await owner.close()
        told = dict(zip(names, (task.result() for task in at_once), strict=True))
        [name] = [name for name, each in told.items() if each.status_code == 201]
        last = told.pop(name)
        assert {(each.status_code, each.json()["code"]) for each in told.values()} == {
            (429, "idempotency_keys_exhausted")
        }
        again = await api.ask("POST", "/v1/keys", admin, json=body, headers={HEADER: name})
        assert again.content == last.content
        assert (await api.ask("POST", "/v1/keys", admin, json=body)).status_code == 201
        assert (await api.ask("POST", "/v1/keys", other, json=body, headers={HEADER: "more"})).status_code == 201
