"""One process's connections to Calendly: shared by everybody's calls, and nothing of one call stays for the next."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.shared_connections import SharedConnections
from slotwire.ingest.control.calendly_client.transport import MAX_CONNECTIONS, open_calendly
from slotwire.ingest.foundation.listener import listen
from slotwire.ingest.foundation.settings import CalendlySettings
from tests.support.dying import dying
from tests.support.plain_http import NO_TLS
from tests.support.scripted_calendly import uncounted

USER = {
    "uri": "https://api.calendly.com/users/U",
    "name": "Ada",
    "email": "ada@example.com",
    "current_organization": "https://api.calendly.com/organizations/O",
}


async def test_tokens_share_connections_and_no_cookie_goes_from_one_to_the_next() -> None:
    """Two customers' calls use one connection; the cookie that the first answer set is not sent with the second."""
    seen: list[tuple[str, str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        address = str(request.transport and request.transport.get_extra_info("peername"))
        seen.append((address, request.headers["Authorization"], request.headers.get("Cookie")))
        made = web.json_response({"resource": USER})
        made.set_cookie("__cf_bm", "of the first")
        return made

    app = web.Application()
    app.router.add_get("/users/me", answer)
    async with (
        listen(app, "127.0.0.1", 0, setting="none") as url,
        open_calendly(CalendlySettings(api_url=url), uncounted(CalendlySettings())) as calendly,
    ):
        for token in ("one", "two"):
            await users.me(calendly.transport(SecretStr(token), calendly.budgets.caller(None, Priority.PERSON)))
    (first, one, none), (second, two, cookie) = seen
    assert (first, none, cookie) == (second, None, None)
    assert (one, two) == ("Bearer one", "Bearer two")


async def test_a_call_beyond_the_connections_waits_for_one() -> None:
    """At the limit every call is at Calendly at once; one more goes when another has ended."""
    open_now, most, full, released = 0, 0, asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == MAX_CONNECTIONS:
            full.set()
        await released.wait()
        open_now -= 1
        return web.json_response({"resource": USER})

    app = web.Application()
    app.router.add_get("/users/me", answer)
    async with (
        listen(app, "127.0.0.1", 0, setting="none") as url,
        open_calendly(CalendlySettings(api_url=url), uncounted(CalendlySettings())) as calendly,
    ):
        client = calendly.transport(SecretStr("t"), calendly.budgets.caller(None, Priority.PERSON))
        calls = [asyncio.create_task(users.me(client)) for _ in range(MAX_CONNECTIONS + 1)]
        async with asyncio.timeout(20):
            await full.wait()
            released.set()
            answers = await asyncio.gather(*calls)
    assert (len(answers), most) == (MAX_CONNECTIONS + 1, MAX_CONNECTIONS)


async def keep_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request on a connection that stays open."""
    with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("keepalive", [30.0, 0.0])
async def test_no_connection_is_lost_to_a_call_that_is_cut_off(keepalive: float) -> None:
    """Cancelled at each of its awaits, once and twice in a row: the one place is free again, and no socket is left."""
    server = await asyncio.start_server(keep_alive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    limits = httpx.Limits(max_connections=1, keepalive_expiry=keepalive)
    open_now = set[httpx.AsyncClient]()

    class Client(httpx.AsyncClient):
        async def aclose(self) -> None:
            await super().aclose()
            open_now.discard(self)

    def opened() -> httpx.AsyncClient:
        client = Client(base_url=url, limits=limits, trust_env=False, verify=NO_TLS)
        open_now.add(client)
        return client

    shared = SharedConnections(opened, 1)
    place, waits = 0, 1
    while waits >= place:
        place += 1
        for more in (0, 1):
            call = shared.exchange("POST", "/x", doing="trying", seconds=20, content=b"{}")
            task = asyncio.ensure_future(dying(call, place, cut=None, more=more))
            await asyncio.wait({task})
            waits = place if task.cancelled() else task.result()
            async with asyncio.timeout(5):
                assert (await shared.exchange("POST", "/x", doing="trying", seconds=20, content=b"{}")).status == 200
            assert len(open_now) <= 2, "those that are left are being closed"
    assert shared.replaced >= place > 5
    await shared.aclose()
    assert open_now == set()
    server.close()
    async with asyncio.timeout(5):
        await server.wait_closed()


async def test_whoever_gets_no_place_in_time_has_sent_nothing() -> None:
    """The place is taken for longer than the call may last: no octet has left, and the call says so."""
    arrived, free = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        arrived.set()
        await free.wait()
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/x", answer)
    async with listen(app, "127.0.0.1", 0, setting="none") as url:
        shared = SharedConnections(lambda: httpx.AsyncClient(base_url=url, trust_env=False, verify=NO_TLS), 1)
        first = asyncio.create_task(shared.exchange("GET", "/x", doing="first", seconds=20))
        await arrived.wait()
        with pytest.raises(httpx.PoolTimeout):
            await shared.exchange("GET", "/x", doing="second", seconds=0.01)
        free.set()
        assert (await first).status == 200
        await shared.aclose()
