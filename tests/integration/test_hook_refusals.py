"""What the public endpoint refuses before it reads a body, what it does not tell, and how its log names the sender."""

from __future__ import annotations

import re
from dataclasses import replace

import asyncpg
import pytest
from structlog.testing import capture_logs

from slotwire.ingest.foundation.guarded_connection import MAX_FRAMING_BYTES
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.keys.hooks import PATH, HookAddresses
from slotwire.ingest.local.databases import Database
from tests.support.public_endpoint import (
    SIGNATURE,
    Endpoint,
    Hook,
    invitee_body,
    make_hook,
    raw_request,
    running_endpoint,
    settings_for,
    sign,
)
from tests.support.wire import wires

NEVER = 60.0
"""A time for the body that no test waits for."""


def nobodys_hook(settings: Settings, hook: Hook) -> Hook:
    """Mint a hook with our key that belongs to no subscription."""
    addresses = HookAddresses.from_settings(settings)
    return replace(hook, path=PATH + addresses.hook(addresses.mint()))


def without_date(answer: bytes) -> bytes:
    """Return an answer without the time that it was given."""
    return re.sub(rb"\r\nDate: [^\r]*", b"", answer)


def counted(reason: str, outcome: str = "refused") -> float:
    """Return how many deliveries were answered so."""
    return REGISTRY.get_sample_value("slotwire_deliveries_total", {"outcome": outcome, "reason": reason}) or 0


async def ask(endpoint: Endpoint, sent: bytes) -> tuple[int, bytes]:
    """Send octets on a connection of their own, and return the first answer."""
    async with wires(endpoint.url, 1) as [wire]:
        wire.send(sent)
        status, answer = await wire.answer()
        return status, without_date(answer)


async def test_a_forged_hook_and_a_missing_signature_are_refused_before_the_body(database: Database) -> None:
    """Of a body that was announced nothing is read: the 401 comes at once, and the connection ends with it."""
    settings = settings_for(database, body_timeout_seconds=NEVER)
    hook = await make_hook(settings, database)
    forged = replace(hook, path=hook.path[:-4] + "AAAA")
    unsigned = raw_request(hook, b"", length=9_000).replace(SIGNATURE.encode(), b"X-Other")
    before = counted("forged_hook"), counted("missing")
    async with running_endpoint(settings) as endpoint:
        for sent in (raw_request(forged, b"", length=9_000), unsigned):
            async with wires(endpoint.url, 1) as [wire]:
                wire.send(sent)
                status, answer = await wire.answer()
                assert (status, answer.endswith(b"unauthorized\n")) == (401, True)
                assert await wire.until_closed() == b""
    assert (counted("forged_hook"), counted("missing")) == (before[0] + 1, before[1] + 1)


async def test_a_hook_that_nobody_has_is_not_told_from_a_bad_signature(database: Database) -> None:
    """The answer is the same to the byte, the body is read the same, and the connection stays the same."""
    settings = settings_for(database, body_timeout_seconds=0.2)
    hook = await make_hook(settings, database)
    nobodys, body = nobodys_hook(settings, hook), invitee_body()
    wrong = replace(hook, key="wrong")
    async with running_endpoint(settings) as endpoint:
        whole = [await ask(endpoint, raw_request(each, body)) for each in (wrong, nobodys)]
        half = [await ask(endpoint, raw_request(each, body[:9], length=len(body))) for each in (wrong, nobodys)]
        large = [await ask(endpoint, raw_request(each, b"", length=2_000_000)) for each in (wrong, nobodys)]
        async with wires(endpoint.url, 2) as kept:
            for wire, each in zip(kept, (wrong, nobodys), strict=True):
                for _ in range(2):
                    wire.send(raw_request(each, body))
                    assert (await wire.answer())[0] == 401
    assert whole[0] == whole[1]
    assert half[0] == half[1]
    assert large[0] == large[1]
    assert [whole[0][0], half[0][0], large[0][0]] == [401, 408, 413]


async def test_a_client_that_asks_is_told_at_once_whether_to_send(database: Database) -> None:
    """`Expect: 100-continue` is answered after the checks that need no body; a refused one gets its status alone."""
    settings = settings_for(database, body_timeout_seconds=NEVER)
    hook, body = await make_hook(settings, database), invitee_body()
    forged = replace(hook, path=hook.path[:-4] + "AAAA")
    expects = "Expect: 100-continue"
    async with running_endpoint(settings) as endpoint:
        async with wires(endpoint.url, 1) as [wire]:
            for _ in range(2):
                wire.send(raw_request(hook, body, expects).removesuffix(body))
                assert await wire.answer() == (100, b"HTTP/1.1 100 Continue\r\n\r\n")
                wire.send(body)
                assert (await wire.answer())[0] == 200
            wire.send(raw_request(hook, body, expects))  # it did not wait
            assert (await wire.answer())[0] == 200
        refused = [
            await ask(endpoint, raw_request(forged, body, expects).removesuffix(body)),
            await ask(endpoint, raw_request(hook, b"", expects, length=2_000_000)),
            await ask(endpoint, raw_request(hook, body, expects).replace(b"/hooks", b"/other").removesuffix(body)),
            await ask(endpoint, raw_request(hook, body, expects).replace(b"POST", b"GET").removesuffix(body)),
        ]
    assert [status for status, _ in refused] == [401, 413, 404, 405]


@pytest.mark.parametrize(
    ("bent", "status"),
    [
        ("{path}/", 200),
        ("{path}//", 200),
        ("/{path}", 200),
        ("/hooks//calendly/{hook}", 200),
        ("/hooks/calendly//{hook}", 200),
        ("//hooks//calendly//{hook}//", 200),
        ("{path}?from=calendly", 200),
        ("{path}///", 404),
        ("//{path}", 404),
        ("/hooks/calendly///{hook}", 404),
        ("{path}/x", 404),
        ("/hooks/{hook}", 404),
        ("/x{path}", 404),
        ("/hooks/calendly/", 404),
        ("/hooks/calendly", 404),
        ("{path}/.", 404),
    ],
)
async def test_one_slash_too_many_is_the_same_address(bent: str, status: int, database: Database) -> None:
    """A trailing or doubled slash is accepted, nothing redirects, and everything else is not found."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    path = bent.format(path=hook.path, hook=hook.path.removeprefix(PATH))
    body = invitee_body()
    async with running_endpoint(settings) as endpoint:
        sent = raw_request(hook, body).replace(hook.path.encode(), path.encode())
        assert (await ask(endpoint, sent))[0] == status


async def test_several_signature_lines_are_one_valid_signature(database: Database) -> None:
    """Equal lines, lines joined by a proxy, and one good line among others are answered 200."""
    settings = settings_for(database)
    hook, body = await make_hook(settings, database), invitee_body()
    good, bad = sign(body, hook.key), sign(body, "wrong")
    async with running_endpoint(settings) as endpoint:
        for lines in ([good, good], [bad, good], [f"{good}, {good}"], [f"{bad},{good}"]):
            headers = [(SIGNATURE, line) for line in lines]
            response = await endpoint.client.post(endpoint.url + hook.path, content=body, headers=headers)
            assert response.status_code == 200, lines


async def test_a_flood_of_small_chunks_is_413(database: Database) -> None:
    """A signed delivery in chunks of an octet is refused past the framing's limit, and one within it is taken."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    body = invitee_body()
    assert len(body) * 5 < MAX_FRAMING_BYTES
    flood = b"1\r\nx\r\n" * 100_000
    async with running_endpoint(settings) as endpoint:
        head = raw_request(hook, body, "Transfer-Encoding: chunked", length=-1).removesuffix(body)
        small = b"".join(b"1\r\n%c\r\n" % octet for octet in body) + b"0\r\n\r\n"
        assert (await ask(endpoint, head + small))[0] == 200
        async with wires(endpoint.url, 1) as [wire]:
            wire.send(head + flood)
            assert (await wire.until_closed())[:12] in {b"HTTP/1.1 413", b""}
    assert REGISTRY.get_sample_value("slotwire_connections_refused_total", {"listener": "hooks", "reason": "framing"})


async def test_a_body_that_breaks_off_is_no_error_of_ours(database: Database) -> None:
    """Broken chunks are 400, a sender that leaves midway is counted; neither writes an error into the log."""
    settings = settings_for(database, body_timeout_seconds=NEVER)
    hook, body = await make_hook(settings, database), invitee_body()
    head = raw_request(hook, body, "Transfer-Encoding: chunked", length=-1).removesuffix(body)
    before = counted("gone", "rejected")
    with capture_logs() as logs:
        async with running_endpoint(settings) as endpoint:
            assert (await ask(endpoint, head + b"zz\r\n"))[0] == 400
            async with wires(endpoint.url, 1) as [wire]:
                wire.send(raw_request(hook, body, "Expect: 100-continue").removesuffix(body))
                assert (await wire.answer())[0] == 100
            while counted("gone", "rejected") == before:
                assert (await endpoint.deliver(hook, invitee_body())).status_code == 200
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_a_connection_that_delivered_is_closed_after_all_strangers(database: Database) -> None:
    """At the cap a stranger goes first, even if the one that brought a delivery has waited longer."""
    settings = settings_for(database, max_connections=2)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint, wires(endpoint.url, 1) as [proven]:
        proven.send(raw_request(hook, invitee_body()))
        assert (await proven.answer())[0] == 200
        async with wires(endpoint.url, 4) as strangers:
            for stranger in strangers[:-1]:
                assert await stranger.until_closed() == b""
            proven.send(raw_request(hook, invitee_body()))
            assert (await proven.answer())[0] == 200


@pytest.mark.parametrize(
    ("trusted", "forwarded", "client"),
    [
        ((), "198.51.100.1", "127.0.0.1"),
        (("127.0.0.0/8",), "203.0.113.5, 198.51.100.1", "198.51.100.1"),
        (("127.0.0.1", "fd00::/8"), "198.51.100.1, [fd00::1]:443", "198.51.100.1"),
        (("127.0.0.0/8",), "198.51.100.1, nonsense", "127.0.0.1"),
    ],
)
async def test_a_refusal_is_logged_with_its_sender(
    trusted: tuple[str, ...], forwarded: str, client: str, database: Database
) -> None:
    """The log has the peer, or behind trusted proxies the right-most other entry; a flood writes a line a second."""
    settings = settings_for(database, trusted_proxies=trusted)
    hook, body = await make_hook(settings, database), invitee_body()
    headers = {SIGNATURE: sign(body, "wrong"), "X-Forwarded-For": forwarded}
    with capture_logs() as logs:
        async with running_endpoint(settings) as endpoint:
            for _ in range(5):
                await endpoint.client.post(endpoint.url + hook.path, content=body, headers=headers)
            await endpoint.client.post(endpoint.url + "/nowhere", headers=headers)
    lines = [line for line in logs if line["event"] == "delivery_refused"]
    assert [line["reason"] for line in lines if line["held_back"] == 0] == ["mismatch", "404"]
    assert len(lines) < 6
    assert {line["client"] for line in lines} == {client}
    assert hook.path.removeprefix(PATH) not in str(logs)


async def test_a_well_formed_hook_that_nobody_has_leaves_no_row(database: Database) -> None:
    """Whatever is refused, nothing is stored."""
    settings = settings_for(database)
    hook = await make_hook(settings, database)
    async with running_endpoint(settings) as endpoint:
        assert (await endpoint.deliver(nobodys_hook(settings, hook), invitee_body())).status_code == 401
    connection = await asyncpg.connect(database.owner_url)
    assert await connection.fetchval("SELECT count(*) FROM slotwire.deliveries") == 0
    await connection.close()
