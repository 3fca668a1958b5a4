"""`Idempotency-Key`: a request that is sent again is carried out once, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.admin_api import Limits
from slotwire.ingest.operate.idempotency import (
    ABANDONED_AFTER,
    HEADER,
    MAX_KEY,
    REMOVED_AT_ONCE,
    REPLAYED,
    RETENTION,
    Claim,
    StoredResponse,
    checked_key,
    fingerprint,
    remove_old,
)
from slotwire.ingest.operate.openapi import document
from slotwire.ingest.operate.problems import RETRY_AFTER_SECONDS
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes import ROUTES
from tests.support.management_api import EPOCH, ManagementApi, management_api
from tests.support.public_endpoint import settings_for

READER = {"role": "reader"}
TICK = timedelta(microseconds=1)
PRINT = fingerprint("POST", "/v1/keys", b"{}")


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until it is moved."""
    return ManualClock(EPOCH)


@pytest.fixture
def settings(database: Database) -> Settings:
    """The test's database, and a Calendly that is not there."""
    return settings_for(database).model_copy(update={"calendly": CalendlySettings(api_url="http://127.0.0.1:9")})


@pytest.fixture
async def api(settings: Settings, clock: ManualClock) -> AsyncIterator[ManagementApi]:
    """The API on a clock of the test's."""
    async with management_api(settings, clock=clock) as running:
        yield running


async def make(api: ManagementApi, admin: str, name: str = "first", body: object = None) -> httpx.Response:
    """Ask for a key, under a name."""
    return await api.ask("POST", "/v1/keys", admin, json=body or READER, headers={HEADER: name})


async def count(api: ManagementApi, table: str) -> int:
    """Count a table's rows."""
    found: int = await api.actions.pool.fetchval(f"SELECT count(*) FROM slotwire.{table}")
    return found


async def test_the_same_request_gets_the_same_answer(api: ManagementApi) -> None:
    """A repeated request makes nothing, and its answer is the first one, octet by octet, marked as such."""
    admin = await api.key()
    first, again = await make(api, admin), await make(api, admin)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["Cache-Control"] == "no-store"
    assert await count(api, "api_keys") == 2


async def test_a_refusal_is_stored_too(api: ManagementApi) -> None:
    """An answer of 4xx comes again as it was, a problem with its code."""
    admin = await api.key()
    unknown = {"role": "reader", "organization": "NOBODY"}
    first, again = [await make(api, admin, body=unknown) for _ in range(2)]
    assert first.status_code == again.status_code == 422
    assert first.content == again.content
    assert again.headers["Content-Type"] == "application/problem+json"
    assert again.headers[REPLAYED] == "true"


async def test_another_request_under_the_same_name_is_refused(api: ManagementApi) -> None:
    """Another body or another address under a name that is taken: 422, and nothing is done."""
    admin = await api.key()
    await make(api, admin)
    other = await make(api, admin, body={"role": "operator"})
    elsewhere = await api.ask(
        "POST", f"/v1/quarantine/{uuid4()}/discard", admin, json={"why": "x"}, headers={HEADER: "first"}
    )
    for response in (other, elsewhere):
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    assert await count(api, "api_keys") == 2


async def test_names_belong_to_a_key_of_the_api(api: ManagementApi) -> None:
    """Two callers may use the same name: neither sees the other's answer."""
    one, two = await api.key(), await api.key()
    first, second = await make(api, one), await make(api, two)
    assert first.json()["key"] != second.json()["key"]
    assert REPLAYED not in second.headers


async def test_a_failure_on_our_side_is_not_stored(api: ManagementApi) -> None:
    """An answer of 5xx lets go of the name: the next one is carried out, not told the same."""
    admin = await api.key()
    path, body = "/v1/organizations", {"token": "x"}
    for _ in range(2):
        response = await api.ask("POST", path, admin, json=body, headers={HEADER: "first"})
        assert (response.status_code, response.json()["code"]) == (504, "calendly_unreachable")
        assert REPLAYED not in response.headers
    assert await count(api, "idempotent_answers") == 0


async def test_the_response_is_stored_encrypted(api: ManagementApi, database: Database) -> None:
    """The table holds neither the key that an answer shows nor the request; moved to another row it does not open."""
    admin = await api.key()
    made = (await make(api, admin, body={"role": "reader", "label": "a label of its own"})).json()
    owner = await asyncpg.connect(database.owner_url)
    try:
        whole = await owner.fetchval("SELECT a::text || encode(sealed, 'escape') FROM slotwire.idempotent_answers a")
        assert made["key"] not in whole
        assert "a label of its own" not in whole
        await owner.execute("UPDATE slotwire.idempotent_answers SET idempotency_key = 'moved'")
    finally:
        await owner.close()
    moved = await make(api, admin, "moved", body={"role": "reader", "label": "a label of its own"})
    assert (moved.status_code, moved.json()["code"]) == (500, "misconfigured")


async def test_a_response_is_stored_for_the_retention_time(api: ManagementApi, clock: ManualClock) -> None:
    """Just before RETENTION has passed the answer comes again; at RETENTION the request is carried out anew."""
    admin = await api.key()
    first = await make(api, admin)
    clock.advance(RETENTION - TICK)
    again = await make(api, admin)
    clock.advance(TICK)
    anew = await make(api, admin, body={"role": "operator"})
    assert again.content == first.content
    assert (anew.status_code, anew.json()["role"]) == (201, "operator")


async def test_old_responses_are_removed(api: ManagementApi, clock: ManualClock, database: Database) -> None:
    """The chore removes what was kept long enough, in parts, and nothing else."""
    admin = await api.key()
    await make(api, admin, "older")
    await api.actions.pool.execute(
        "INSERT INTO slotwire.idempotent_answers (key_id, idempotency_key, claim, fingerprint, created_at)"
        " SELECT key_id, 'copy' || n, claim, fingerprint, created_at"
        " FROM slotwire.idempotent_answers, generate_series(1, $1) n",
        REMOVED_AT_ONCE,
    )
    clock.advance(TICK)
    await make(api, admin, "younger")
    clock.advance(RETENTION - TICK * 2)
    assert await remove_old(api.actions.pool, now=clock.now()) == 0
    clock.advance(TICK)
    assert await remove_old(api.actions.pool, now=clock.now()) == REMOVED_AT_ONCE + 1
    assert await count(api, "idempotent_answers") == 1


@pytest.mark.parametrize("name", ["x", "x" * MAX_KEY, "!~", "0b1f5b1e-7a52-4d7c-9d3e-0c5a3a1c7a11"])
async def test_names_that_fit(name: str, api: ManagementApi) -> None:
    """One character, MAX_KEY of them, the edges of visible ASCII and a UUID are taken."""
    assert (await make(api, await api.key(), name)).status_code == 201


@pytest.mark.parametrize("name", ["", "x" * (MAX_KEY + 1), "a b", "a\tb", "caf\u00e9"])
async def test_names_that_do_not_fit(name: str, api: ManagementApi) -> None:
    """Nothing, one character too many, and what is not visible ASCII is refused, and nothing is done."""
    admin = await api.key()
    headers = [(HEADER.encode(), name.encode("latin-1")), (b"Authorization", f"Bearer {admin}".encode())]
    response = await api.client.post(api.url + "/v1/keys", json=READER, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_invalid")
    assert await count(api, "api_keys") == 1


async def test_two_names_are_refused(api: ManagementApi) -> None:
    """The header comes once or not at all."""
    admin = await api.key()
    headers = [(HEADER, "a"), (HEADER, "b"), ("Authorization", f"Bearer {admin}")]
    response = await api.client.post(api.url + "/v1/keys", json=READER, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_invalid")


async def test_many_at_once_over_several_processes(settings: Settings) -> None:
    """Of thirty equal requests at three processes one runs; the others get its answer, or are told to wait."""
    async with AsyncExitStack() as stack:
        desks = [await stack.enter_async_context(management_api(settings)) for _ in range(3)]
        admin = await desks[0].key()
        answers = await asyncio.gather(*(make(desks[at % 3], admin) for at in range(30)))
        later = await make(desks[1], admin)
        assert await count(desks[0], "api_keys") == 2
    made = {response.content for response in answers if response.status_code == 201}
    assert made == {later.content}
    assert len([item for item in answers if item.status_code == 201 and REPLAYED not in item.headers]) == 1
    for response in answers:
        if response.status_code != 201:
            assert (response.status_code, response.json()["code"]) == (409, "idempotency_key_in_use")
            assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)


async def test_a_request_without_an_end_is_taken_over(api: ManagementApi, clock: ManualClock) -> None:
    """A claim whose process died blocks until ABANDONED_AFTER, then one other takes it; the dead one keeps nothing."""
    responses, key_id = api.actions.idempotency, await key_of(api)
    dead = await responses.claim(key_id, "k", PRINT)
    assert isinstance(dead, Claim)
    clock.advance(ABANDONED_AFTER - TICK)
    with pytest.raises(RequestRefused) as caught:
        await responses.claim(key_id, "k", PRINT)
    assert caught.value.code == "idempotency_key_in_use"
    clock.advance(TICK)
    with pytest.raises(RequestRefused) as caught:
        await responses.claim(key_id, "k", fingerprint("POST", "/v1/keys", b"[]"))
    assert caught.value.code == "idempotency_key_reused"
    found = await asyncio.gather(*(responses.claim(key_id, "k", PRINT) for _ in range(8)), return_exceptions=True)
    [heir] = [item for item in found if isinstance(item, Claim)]
    assert {item.code for item in found if isinstance(item, RequestRefused)} == {"idempotency_key_in_use"}
    await responses.store(dead, 200, b"of the dead")
    await responses.release(dead)
    await responses.store(heir, 201, b"of the heir")
    assert await responses.claim(key_id, "k", PRINT) == StoredResponse(201, b"of the heir")


async def test_a_cancelled_request_releases_its_claim(settings: Settings) -> None:
    """What takes longer than an answer may is 503, and the name is free again."""
    over = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    api_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    slow = settings.model_copy(update={"calendly": CalendlySettings(api_url=api_url)})
    async with management_api(slow, limits=Limits(answer_seconds=0.5)) as api:
        admin = await api.key()
        path, body = "/v1/organizations", {"token": "x"}
        response = await api.ask("POST", path, admin, json=body, headers={HEADER: "k"})
        assert (response.status_code, response.json()["code"]) == (503, "answer_timeout")
        assert await count(api, "idempotent_answers") == 0
        over.set()
    server.close()
    await server.wait_closed()


async def test_a_response_that_cannot_be_stored_is_sent(api: ManagementApi) -> None:
    """An answer longer than the vault seals is let go of, not cut."""
    responses, key_id = api.actions.idempotency, await key_of(api)
    for body, rows in ((b"x" * 65_536, 1), (b"x" * 65_537, 0)):
        claim = await responses.claim(key_id, "k", PRINT)
        assert isinstance(claim, Claim)
        await responses.store(claim, 200, body)
        assert await count(api, "idempotent_answers") == rows
        await responses.release(claim)


def test_no_request_runs_long_enough_to_count_as_dead() -> None:
    """A request is cut off well before another may take it over."""
    assert timedelta(seconds=Limits().answer_seconds) + timedelta(seconds=15) < ABANDONED_AFTER


def test_without_the_header_nothing_is_asked() -> None:
    """The header is optional; what no client can send is refused all the same."""
    assert checked_key([]) is None
    with pytest.raises(RequestRefused):
        checked_key(["\x7f"])


def test_every_post_is_described_with_it() -> None:
    """The document names the header at every POST route and at no other, and no other takes it."""
    described = document()["paths"]
    for route in ROUTES:
        names = {parameter["name"] for parameter in described[route.path][route.method.lower()]["parameters"]}
        assert (HEADER in names) == route.repeatable == (route.method == "POST")


async def key_of(api: ManagementApi) -> UUID:
    """Make a key of the API and return its id."""
    await api.key(Role.OPERATOR)
    found: UUID = await api.actions.pool.fetchval("SELECT id FROM slotwire.api_keys WHERE role = 'operator'")
    return found
