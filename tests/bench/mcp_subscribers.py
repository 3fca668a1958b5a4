"""The subscribers of `tests.bench.mcp_events`, on one port of several addresses of this machine.

    python -m tests.bench.mcp_subscribers PORT HOSTS

Prints a line for each event that comes: the invitee's id and the moment.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import orjson
import uvloop
from aiohttp import web

from slotwire.schemas.ids import last_segment


def addresses(hosts: int) -> list[str]:
    """Return so many addresses of this machine, the first of which is the usual one."""
    return [f"127.0.0.{number}" for number in range(1, hosts + 1)]


async def receive(port: int, hosts: int) -> None:
    """Take events and print when each came."""

    async def taken(request: web.Request) -> web.Response:
        moment = time.monotonic()
        told = orjson.loads(await request.read())
        sys.stdout.write(f"{last_segment(told['data']['uri'])} {moment}\n")
        sys.stdout.flush()
        return web.Response(status=204)

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/{subscriber}", taken)
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for host in addresses(hosts):
        await web.TCPSite(runner, host, port).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner_:
        runner_.run(receive(*map(int, sys.argv[1:])))
