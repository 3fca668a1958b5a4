"""Each limit of the public endpoint, at it and past it, on raw sockets where a client library would interfere."""

from __future__ import annotations

import asyncio
import gzip
import random
from typing import Any

import asyncpg
from structlog.testing import capture_logs

from slotwire.ingest.foundation.guarded_connection import MAX_HEADERS
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.parts import MAX_DEPTH
from slotwire.ingest.receive.endpoint import MAX_ENCODING_CHARS, OTHER_ENCODING
from slotwire.ingest.receive.verify import MAX_LINES
from slotwire.schemas.ids import last_segment
from tests.support.public_endpoint import (
    SIGNATURE,
    Hook,
    exchange,
    invitee_body,
    make_hook,
    raw_request,
    running_endpoint,
    settings_for,
    sign,
)
from tests.support.writing import write_all


def post(hook: Hook, body: bytes, *lines: str, length: int | None = None) -> bytes:
    """Write a signed POST by hand; the connection is to be closed after it."""
    return raw_request(hook, body, "Connection: close", *lines, length=length)


def status(answer: bytes) -> int:
    """Return the status of a raw answer."""
    return int(answer.split(b" ", 2)[1])


async def quarantined(database: Database) -> list[Any]:
    """Return reason and body of everything in quarantine."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        return [
            (row["reason"], row["body"])
            for row in await connection.fetch("SELECT reason, body FROM slotwire.quarantine ORDER BY position")
        ]
    finally:
        await connection.close()


def padded(size: int) -> bytes:
    """Make an authentic body of exactly so many bytes."""
    body = invitee_body(padding="")
    return invitee_body(padding="x" * (size - len(body)))


async def test_a_body_at_the_limit_is_stored_and_one_byte_more_is_413(database: Database) -> None:
    """With a length declared or chunked, the limit is the same, and the connection is closed past it."""
    settings = settings_for(database, max_body_bytes=4096)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        assert (await endpoint.deliver(hook, padded(4096))).status_code == 200
        assert (await endpoint.deliver(hook, padded(4097))).status_code == 413
        for size, expected in ((4096, 200), (4097, 413)):
            body = padded(size)
            chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
            head = post(hook, body, "Transfer-Encoding: chunked", length=-1)[: -len(body)]
            assert status(await exchange(endpoint, head + chunked)) == expected


async def test_a_body_that_never_comes_is_408(database: Database) -> None:
    """A sender that stops in the middle is told so after the body's time, and the connection is closed."""
    settings = settings_for(database, body_timeout_seconds=0.2)
    hook = await make_hook(settings, database)
    body = invitee_body()
    async with running_endpoint(settings) as endpoint:
        answer = await exchange(endpoint, post(hook, body[:100], length=len(body)))
    assert status(answer) == 408
    assert b"connection: close" in answer.lower()


async def test_headers_past_the_limit_are_431(database: Database) -> None:
    """16 KiB of header pass; one field, or all of them together, past it are 431; so are too many fields."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    body = invitee_body()
    async with running_endpoint(settings) as endpoint:
        base = len(post(hook, body)) - len(body)
        room = settings.http.max_header_bytes - base
        assert status(await exchange(endpoint, post(hook, body, f"X: {'y' * (room // 2)}"))) == 200
        assert status(await exchange(endpoint, post(hook, body, f"X: {'y' * 16_400}"))) == 431
        two = (f"X: {'y' * 9_000}", f"Y: {'y' * 9_000}")
        assert status(await exchange(endpoint, post(hook, body, *two))) == 431
        many = [f"X-{number}: y" for number in range(MAX_HEADERS + 1)]
        assert status(await exchange(endpoint, post(hook, body, *many))) in {400, 431}


async def test_deliveries_past_the_pending_limit_are_503(database: Database) -> None:
    """When as many deliveries wait as may, one more is asked to come again instead of growing the queue."""
    settings = settings_for(database, max_pending_deliveries=1)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        assert (await endpoint.deliver(hook, invitee_body())).status_code == 200
        answers = await asyncio.gather(*(endpoint.deliver(hook, invitee_body()) for _ in range(40)))
    codes = {answer.status_code for answer in answers}
    assert codes == {200, 503}
    assert all(answer.headers["Retry-After"] == "5" for answer in answers if answer.status_code == 503)


async def test_an_authentic_unreadable_body_is_quarantined_and_answered_200(database: Database) -> None:
    """Not JSON, not UTF-8, too deep, compressed, unknown or old in shape: raw in quarantine, never a 4xx."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    envelope = b'{"event":"invitee.created","created_at":"2026-11-23T09:00:00Z","payload":%s}'
    cases: list[tuple[str, bytes, dict[str, str]]] = [
        ("not_json", b"{", {}),
        ("not_json", b"", {}),
        ("invalid_utf8", b'{"event":"\xff"}', {}),
        ("too_deep", envelope % (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"), {}),
        ("too_deep", b"[" * 1500 + b"]" * 1500, {}),
        ("compressed", gzip.compress(b"\0" * 1_000_000), {"Content-Encoding": "gzip"}),
        ("not_an_envelope", b"[]", {}),
        ("not_an_envelope", b'{"event":1,"payload":{}}', {}),
        ("unknown_event", b'{"event":"invitee.teleported","payload":{}}', {}),
        ("v1_shape", envelope % b'{"event_type":{},"event":{},"invitee":{}}', {}),
        ("invalid_payload", envelope % b'{"uri":7}', {}),
        ("invalid_payload", envelope % b'{"uri":"x","updated_at":"0001-01-01T00:00:00+14:00"}', {}),
        ("null_character", invitee_body(email="a\0b@example.com", invitee="https://x/\0/invitees/1"), {}),
        ("unknown_time", invitee_body("invitee_no_show.deleted", told_at="yesterday"), {}),
    ]
    async with running_endpoint(settings) as endpoint:
        for reason, body, headers in cases:
            response = await endpoint.deliver(hook, body, headers=headers)
            assert (reason, response.status_code) == (reason, 200)
        for encoding in ("\x01", "x" * MAX_ENCODING_CHARS, "x" * (MAX_ENCODING_CHARS + 1)):
            sent = post(hook, b"{}", f"Content-Encoding: {encoding}")
            answer = await exchange(endpoint, sent.replace(b"\x01", b"\xff"))
            assert answer.startswith(b"HTTP/1.1 200 ")
            cases.append(("compressed", b"{}", {}))
    await write_all(settings)
    assert await quarantined(database) == [(reason, body) for reason, body, _ in cases]
    connection = await asyncpg.connect(database.owner_url)
    rows = await connection.fetch("SELECT content_encoding FROM slotwire.deliveries ORDER BY position DESC LIMIT 3")
    await connection.close()
    assert [row["content_encoding"] for row in rows] == [OTHER_ENCODING, "x" * MAX_ENCODING_CHARS, OTHER_ENCODING]


async def test_a_poison_row_does_not_fail_its_neighbours(database: Database) -> None:
    """What Postgres refuses is quarantined alone; the good deliveries of its batch are stored."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    chance = random.Random(1)  # noqa: S311 - no secret
    too_long = "".join(chr(chance.randrange(0x10000, 0x11000)) for _ in range(1_900))  # for an index, not for a row
    bodies = [invitee_body(invitee=f"https://x/{too_long}") if n == 7 else invitee_body() for n in range(20)]
    async with running_endpoint(settings) as endpoint:
        answers = await asyncio.gather(*(endpoint.deliver(hook, body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert await write_all(settings) == 19
    assert await quarantined(database) == [("refused_by_database", bodies[7])]
    connection = await asyncpg.connect(database.owner_url)
    assert await connection.fetchval("SELECT count(*) FROM slotwire.events") == 19
    await connection.close()


async def test_json_at_the_depth_limit_is_read(database: Database) -> None:
    """Nesting of exactly the limit becomes an event; one level more is quarantined."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    deepest = MAX_DEPTH - 2  # the body and the payload are two levels
    nested: Any = 1
    for _ in range(deepest):
        nested = [nested]
    async with running_endpoint(settings) as endpoint:
        await endpoint.deliver(hook, invitee_body(nested=nested))
        await write_all(settings)
        assert await quarantined(database) == []
        body = invitee_body(nested=[nested])
        await endpoint.deliver(hook, body)
    await write_all(settings)
    assert await quarantined(database) == [("too_deep", body)]


async def test_refusals_say_nothing_about_hooks(database: Database) -> None:
    """Unknown hook, forged hook, wrong, missing, doubled and future signature: one status, one body."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    other = await make_hook(settings_for(database), database)  # minted under another server key
    body = invitee_body()
    future = sign(body, hook.key, at=4_000_000_000)
    async with running_endpoint(settings) as endpoint:
        post_to = endpoint.client.post
        answers = [
            await post_to(f"{endpoint.url}/hooks/calendly/nobody", content=body),
            await post_to(endpoint.url + other.path, content=body, headers={SIGNATURE: sign(body, other.key)}),
            await post_to(endpoint.url + hook.path, content=body),
            await post_to(endpoint.url + hook.path, content=body, headers={SIGNATURE: sign(body, "wrong")}),
            await post_to(endpoint.url + hook.path, content=body, headers={SIGNATURE: future}),
            await post_to(
                endpoint.url + hook.path, content=body, headers=[(SIGNATURE, sign(body, hook.key))] * (MAX_LINES + 1)
            ),
        ]
        got = await endpoint.client.get(endpoint.url + hook.path)
        slashed = await endpoint.client.post(f"{endpoint.url}{hook.path}/", content=body)
    assert {(answer.status_code, answer.content) for answer in answers} == {(401, b"unauthorized\n")}
    assert got.status_code == 405
    assert slashed.status_code == 401
    assert await quarantined(database) == []


async def test_a_subscription_s_max_age_quarantines_what_is_older(database: Database) -> None:
    """A stale authentic delivery is kept and answered 2xx, never refused."""
    settings = settings_for(database)
    hook = await make_hook(settings, database, max_age_seconds=300)
    body = invitee_body()
    async with running_endpoint(settings) as endpoint:
        response = await endpoint.deliver(hook, body, headers={SIGNATURE: sign(body, hook.key, at=1_700_000_000)})
    assert response.status_code == 200
    await write_all(settings)
    assert await quarantined(database) == [("stale", body)]


async def test_a_booking_told_by_two_organizations_is_a_booking_of_each(database: Database) -> None:
    """The signature does not cover the address: each organization gets an event of its own, and an alarm tells."""
    settings = settings_for(database)
    ours, theirs = await make_hook(settings, database), await make_hook(settings, database)
    body, before = invitee_body(), REGISTRY.get_sample_value("slotwire_cross_tenant_total") or 0
    async with running_endpoint(settings) as endpoint:
        for hook in (ours, theirs):
            assert (await endpoint.deliver(hook, body)).status_code == 200
            assert await write_all(settings) == 1
    assert await quarantined(database) == []
    assert REGISTRY.get_sample_value("slotwire_cross_tenant_total") == before + 1
    connection = await asyncpg.connect(database.owner_url)
    rows = await connection.fetch("SELECT org, chain_key, state FROM slotwire.bookings")
    await connection.close()
    assert len({row["chain_key"] for row in rows}) == len(rows) == 2
    assert {row["org"] for row in rows} == {last_segment(hook.organization) for hook in (ours, theirs)}


async def test_what_waits_to_be_written_has_a_limit_in_bytes(database: Database) -> None:
    """At the limit a delivery is accepted; past it, one is asked to come again, until the writer has caught up."""
    row = 256
    body = padded(4096)
    settings = settings_for(database, max_unwritten_bytes=1_048_576)
    fitting = 1_048_576 // (len(body) + row)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        taken = [(await endpoint.deliver(hook, padded(4096))).status_code for _ in range(fitting)]
        past = await endpoint.deliver(hook, body)
        assert (set(taken), past.status_code, past.headers["Retry-After"]) == ({200}, 503, "5")
        with capture_logs() as logs:
            assert {(await endpoint.deliver(hook, body)).status_code for _ in range(20)} == {503}
        assert len([line for line in logs if line["event"] == "commit_failed"]) < 20, "a flood does not fill the disk"
        assert REGISTRY.get_sample_value("slotwire_unwritten_limit_bytes") == 1_048_576
        await write_all(settings)
        assert (await endpoint.deliver(hook, body)).status_code == 200
    connection = await asyncpg.connect(database.owner_url)
    assert await connection.fetchval("SELECT count(*) FROM slotwire.deliveries") == fitting + 1
    await connection.close()
