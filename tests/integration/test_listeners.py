"""The guard of every listener, at each limit and past it, on raw sockets. `hooks`, `admin` and `health` all have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from slotwire.ingest.foundation.guarded_connection import (
    MAX_FRAMING_BYTES,
    MAX_HEADERS,
    SLICE_BYTES,
    FramingTooLarge,
    connection_of,
)
from slotwire.ingest.foundation.health import Health, serving_health
from slotwire.ingest.foundation.listener import ADMIN, HEALTH, listen
from slotwire.ingest.foundation.open_connections import KEEP_ALIVE_SECONDS, ListenerLimits, OpenConnections
from slotwire.ingest.foundation.settings import HealthSettings, HttpSettings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.receive.listener import listening
from tests.support.plain_http import NO_TLS
from tests.support.wire import NOT_HTTP, SECONDS, Wire, wires

QUICK = b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /body HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = ListenerLimits(name="test", max_connections=64)


@dataclass
class Guarded:
    """A small application behind a listener."""

    url: str = ""
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    over: asyncio.Event = field(default_factory=asyncio.Event)
    big: bytes = b"x" * 65_536

    def application(self) -> web.Application:
        """Build it."""

        async def quick(_: web.Request) -> web.Response:
            return web.Response(text="quick\n")

        async def slow(_: web.Request) -> web.Response:
            self.begun.release()
            await self.over.wait()
            return web.Response(text="slow\n")

        async def large(_: web.Request) -> web.Response:
            return web.Response(body=self.big)

        async def body(request: web.Request) -> web.Response:
            self.begun.release()
            try:
                with connection_of(request).awaiting_body(request):
                    return web.Response(text=f"{len(await request.read())}\n")
            except FramingTooLarge:
                return web.Response(status=413)
            except web.RequestPayloadError:
                return web.Response(status=400)

        app = web.Application(client_max_size=2**21)
        app.add_routes([web.get("/quick", quick), web.get("/slow", slow), web.get("/large", large)])
        app.add_routes([web.post("/body", body), web.post("/refused", quick)])
        return app


@asynccontextmanager
async def serving(limits: ListenerLimits = LIMITS) -> AsyncIterator[Guarded]:
    """Serve the small application while the block runs."""
    guarded = Guarded()
    async with listen(guarded.application(), "127.0.0.1", 0, setting="none", limits=limits) as guarded.url:
        yield guarded


def refused(reason: str, listener: str = "test") -> float:
    """Return how many connections were refused for a reason so far."""
    labels = {"listener": listener, "reason": reason}
    return REGISTRY.get_sample_value("slotwire_connections_refused_total", labels) or 0


async def a_newcomer_is_served(url: str) -> bool:
    """Return whether a new connection gets an answer."""
    async with wires(url, 1) as [wire]:
        return await is_alive(wire)


async def is_alive(wire: Wire) -> bool:
    """Return whether a connection still answers."""
    wire.send(QUICK)
    try:
        return (await wire.answer())[0] == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_each_header_has_its_time_not_only_the_first() -> None:
    """A new connection, one between requests, and one that trickles are closed when a header does not come in time."""
    before = refused("header_time")
    limits = replace(LIMITS, header_seconds=1.0)
    async with serving(limits) as guarded, wires(guarded.url, 3) as [silent, later, drip]:
        assert await is_alive(later)
        assert await is_alive(drip)
        later.send(b"GET /quick HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        drip.send(b"GET /")
        closed = asyncio.create_task(drip.until_closed())
        while not closed.done():
            drip.send(b"G")
            await asyncio.wait([closed], timeout=0.02)
        assert [await closed, await silent.until_closed(), await later.until_closed()] == [b""] * 3
    assert refused("header_time") == before + 3


async def test_a_connection_without_a_request_is_closed_after_its_time() -> None:
    """Between requests a connection stays for the keep-alive time, and no longer; the usual one is 75 s."""
    assert (KEEP_ALIVE_SECONDS, HEALTH.keep_alive_seconds, ADMIN.keep_alive_seconds) == (75.0, 75.0, 75.0)
    async with (
        serving(replace(LIMITS, keep_alive_seconds=0.2)) as guarded,
        wires(guarded.url, 1) as [wire],
    ):
        assert await is_alive(wire)
        assert await wire.until_closed() == b""


async def test_a_newcomer_at_the_cap_takes_the_place_of_whoever_waited_longest() -> None:
    """With all places taken by idle connections, each newcomer is served, and the longest idle one is closed."""
    before = refused("made_room")
    async with serving(replace(LIMITS, max_connections=3)) as guarded, wires(guarded.url, 3) as held:
        for wire in (held[1], held[2], held[0]):
            assert await is_alive(wire)  # now the second has waited longest
        assert await a_newcomer_is_served(guarded.url)
        assert refused("made_room") == before + 1
        assert await held[1].until_closed() == b""
        assert [await is_alive(held[2]), await is_alive(held[0])] == [True, True]


async def test_a_request_that_runs_is_never_closed_for_a_newcomer() -> None:
    """While we are at work for all connections, a newcomer is refused and counted; afterwards all are answered."""
    before = refused("no_room")
    async with serving(replace(LIMITS, max_connections=2)) as guarded, wires(guarded.url, 2) as held:
        for wire in held:
            wire.send(SLOW)
            await guarded.begun.acquire()
        async with wires(guarded.url, 1) as [newcomer]:
            assert await newcomer.until_closed() == b""
        assert refused("no_room") == before + 1
        guarded.over.set()
        assert [(await wire.answer())[0] for wire in held] == [200, 200]


async def test_half_a_body_gives_way_to_a_newcomer() -> None:
    """A request whose body does not come waits for its client, so its place is not safe."""
    async with serving(replace(LIMITS, max_connections=2)) as guarded, wires(guarded.url, 2) as held:
        for wire in held:
            wire.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            await guarded.begun.acquire()
        assert await a_newcomer_is_served(guarded.url)
        assert await held[0].until_closed() == b""


async def test_a_client_that_does_not_read_is_closed() -> None:
    """Answers that pile up end the connection after their time, and it gives way to a newcomer before that."""
    before = refused("unread")
    many = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 200
    async with serving(replace(LIMITS, unread_seconds=0.2)) as guarded, wires(guarded.url, 1) as [deaf]:
        deaf.stop_reading()
        deaf.send(many)
        while refused("unread") == before:
            assert await a_newcomer_is_served(guarded.url)
    async with serving(replace(LIMITS, max_connections=1)) as guarded, wires(guarded.url, 1) as [deaf]:
        deaf.stop_reading()
        deaf.send(many)
        async with asyncio.timeout(SECONDS):
            while not await a_newcomer_is_served(guarded.url):
                pass


def _chunks(framing: int, body: int) -> bytes:
    """Make a chunked body whose frames have exactly so many octets, as an extension of the last chunk fills them."""
    bare = b"1\r\nx\r\n" * body
    end = b"0;%s\r\n\r\n"
    return bare + end % (b"e" * (framing - 5 * body - 6))


@pytest.mark.parametrize(("framing", "status"), [(MAX_FRAMING_BYTES, 200), (MAX_FRAMING_BYTES + 2 * SLICE_BYTES, 413)])
async def test_the_framing_of_a_body_is_bounded(framing: int, status: int) -> None:
    """Chunks of one octet pass up to the limit, which is kept to within a slice; past it the request is refused."""
    before = refused("framing")
    async with serving() as guarded, wires(guarded.url, 1) as [wire]:
        wire.send(CHUNKED)
        assert (await wire.answer())[0] == 100
        wire.send(_chunks(framing, 3_000))
        assert (await wire.answer())[0] == status
    assert refused("framing") == before + (status == 413)


async def test_trailers_count_as_framing() -> None:
    """Trailers are read by nobody, and bounded with the chunks."""
    async with serving() as guarded, wires(guarded.url, 1) as [wire]:
        wire.send(CHUNKED)
        assert (await wire.answer())[0] == 100
        wire.send(b"1\r\nx\r\n0\r\n" + b"".join(b"X-%d: %s\r\n" % (at, b"y" * 4_000) for at in range(9)) + b"\r\n")
        assert (await wire.answer())[0] == 413


async def test_a_large_body_in_large_chunks_is_no_flood() -> None:
    """A body of many times the framing's limit passes, in chunks and in one piece, and whoever reads slowly."""
    async with serving() as guarded, wires(guarded.url, 1) as [wire]:
        body = b"x" * 1_048_576
        wire.send(CHUNKED)
        assert (await wire.answer())[0] == 100
        wire.send(b"".join(b"200\r\n%s\r\n" % body[at : at + 512] for at in range(0, len(body), 512)) + b"0\r\n\r\n")
        assert (await wire.answer())[1].endswith(b"1048576\n")
        wire.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert (await wire.answer())[1].endswith(b"1048576\n")


async def test_a_header_is_bounded_before_it_ends() -> None:
    """A header that goes on past the limit is answered 431 at once, on a new connection and on a kept one."""
    before = refused("header_size")
    field_ = b"X: " + b"y" * 4_000 + b"\r\n"
    async with serving() as guarded, wires(guarded.url, 2) as (fresh, kept):
        assert await is_alive(kept)
        for wire in (fresh, kept):
            wire.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n" + field_ * 5)
            assert (await wire.answer())[0] == 431
            assert await wire.until_closed() == b""
    assert refused("header_size") == before + 2


async def test_blank_lines_are_no_way_around_the_header_s_limit() -> None:
    """Empty lines before a request count as its header."""
    async with serving() as guarded, wires(guarded.url, 1) as [wire]:
        wire.send(b"\r\n" * 20_000)
        assert b" 431 " in await wire.until_closed()


async def test_header_fields_are_counted() -> None:
    """As many fields as the limit pass, one more is refused."""
    async with serving() as guarded, wires(guarded.url, 2) as (fits, over):
        for wire, count, status in ((fits, MAX_HEADERS, 200), (over, MAX_HEADERS + 1, 400)):
            fields = b"".join(b"X-%d: y\r\n" % at for at in range(count - 1))
            wire.send(b"GET /quick HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
            assert (await wire.answer())[0] == status


async def test_a_body_that_breaks_off_the_rules_is_answered_at_once() -> None:
    """A chunk that is none ends the request, whether it comes with the header or later; nothing is logged as ours."""
    together = CHUNKED.replace(b"Expect: 100-continue\r\n", b"") + b"zz\r\n"
    with capture_logs() as logs:
        async with serving() as guarded, wires(guarded.url, 2) as (first, second):
            first.send(together)
            assert (await first.answer())[0] == 400
            second.send(CHUNKED)
            assert (await second.answer())[0] == 100
            second.send(b"zz\r\n")
            assert (await second.answer())[0] == 400
    assert [line for line in logs if line["log_level"] == "error"] == []


@pytest.mark.parametrize("octets", NOT_HTTP.values(), ids=NOT_HTTP.keys())
async def test_what_is_not_http_is_refused_and_counted(octets: bytes) -> None:
    """TLS and HTTP/2 on this port are answered 400; the log names the client, and not what it sent."""
    before = refused("unreadable")
    with capture_logs() as logs:
        async with serving() as guarded, wires(guarded.url, 1) as [wire]:
            wire.send(octets)
            assert (await wire.answer())[0] == 400
            assert await wire.until_closed() == b""
    assert refused("unreadable") == before + 1
    [line] = [line for line in logs if line["event"] == "connection_refused"]
    assert (line["listener"], line["reason"], line["client"]) == ("test", "unreadable", "127.0.0.1")


async def test_a_flood_writes_one_line_a_second() -> None:
    """Of many refusals for one reason the first is logged, and the metric counts all."""
    before = refused("unreadable")
    with capture_logs() as logs:
        async with serving() as guarded:
            for _ in range(20):
                async with wires(guarded.url, 1) as [wire]:
                    wire.send(b"\x00\r\n\r\n")
                    await wire.answer()
    assert refused("unreadable") == before + 20
    lines = [line for line in logs if line["event"] == "connection_refused"]
    assert len(lines) < 20
    assert lines[0]["held_back"] == 0


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Hundreds of requests sent at once, in pieces that end anywhere, are all answered, and the connection stays."""
    async with serving() as guarded, wires(guarded.url, 1) as [wire]:
        sent = QUICK * 300
        for start in range(0, len(sent), 1_000):
            wire.send(sent[start : start + 1_000])
        assert {(await wire.answer())[0] for _ in range(300)} == {200}
        assert await is_alive(wire)


async def test_a_request_that_is_refused_gets_no_100() -> None:
    """A client that asks whether to send its body gets the final status, at once and alone, where nobody wants it."""
    async with serving() as guarded, wires(guarded.url, 3) as held:
        for wire, path, status in zip(held, (b"/refused", b"/nowhere", b"/body"), (200, 404, 100), strict=True):
            wire.send(b"POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" % path)
            assert (await wire.answer())[0] == status
        held[2].send(b"body")
        assert (await held[2].answer())[1].endswith(b"4\n")


async def test_an_unknown_expectation_is_ignored() -> None:
    """Anything else that a client expects changes nothing."""
    async with serving() as guarded, wires(guarded.url, 1) as [wire]:
        wire.send(b"POST /body HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 4\r\n\r\nbody")
        assert (await wire.answer())[1].endswith(b"4\n")


async def test_the_health_port_answers_while_all_its_places_are_held() -> None:
    """As many silent connections as the port takes do not keep a probe out, and the process counts them."""
    before = refused("made_room", "health")
    async with (
        serving_health(Health("serve"), HealthSettings(port=0)) as url,
        wires(url, HEALTH.max_connections) as held,
        wires(url, 1) as [probe],
    ):
        probe.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await probe.answer())[0] == 200
        assert await held[0].until_closed() == b""
    assert refused("made_room", "health") == before + 1


async def test_no_listener_names_its_libraries() -> None:
    """Hooks, applications, health ports: an answer, a refusal, and what is no HTTP come from `slotwire`, no more."""
    guarded = Guarded()

    async def not_found(_: web.BaseRequest) -> web.Response:
        return web.Response(status=404)

    hooks = listening(not_found, HttpSettings(host="127.0.0.1", port=0, drain_seconds=0), OpenConnections(LIMITS))
    application = listen(guarded.application(), "127.0.0.1", 0, setting="none", limits=LIMITS)
    health = serving_health(Health("serve"), HealthSettings(port=0))
    async with hooks as first, application as second, health as third, httpx.AsyncClient(verify=NO_TLS) as client:
        for url in (first, second, third):
            for path in ("/quick", "/livez", "/nowhere"):
                assert (await client.get(url + path)).headers["Server"] == "slotwire"
            async with wires(url, 1) as [wire]:
                wire.send(b"SMTP\r\n\r\n")
                said = (await wire.until_closed()).lower()
            assert b"server: slotwire\r\n" in said
            assert b"aiohttp" not in said


async def test_a_flood_of_questions_about_readiness_is_one_check_a_second() -> None:
    """Those who ask at once, and those who ask within a second, get one answer; a stop is told at once."""
    now, asked = 0.0, 0

    async def check() -> str | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return None if asked < 2 else "broken"

    health = Health("serve", timer=lambda: now)
    health.add("it", check)
    assert await asyncio.gather(*[health.readiness() for _ in range(50)]) == [{}] * 50
    now = 0.999
    assert (await health.readiness(), asked) == ({}, 1)
    now = 1.0
    assert (await health.readiness(), asked) == ({"it": "broken"}, 2)
    health.draining = True
    assert "process" in await health.readiness()
