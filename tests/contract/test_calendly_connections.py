"""One process's connections to Calendly: shared by everybody's calls, and nothing of one call stays for the next."""

from __future__ import annotations

import asyncio

from aiohttp import web
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.transport import MAX_CONNECTIONS, open_calendly
from slotwire.ingest.foundation.listener import listen
from slotwire.ingest.foundation.settings import CalendlySettings
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
