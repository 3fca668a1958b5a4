"""Processes of `tests.bench.mcp_events`: subscribers on one port, and a process that delivers to all of them.

    python -m tests.bench.mcp_subscribers receive PORT
    python -m tests.bench.mcp_subscribers deliver '{"database_url": …, "org": …, "port": …, …}'

The first prints a line for each event that comes: the invitee's id and the moment. The second makes the subscriptions,
prints `ready` once it follows for all of them, and delivers until a signal ends it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from datetime import timedelta
from uuid import UUID

import asyncpg
import orjson
from aiohttp import web

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.sealing import SealingKeys
from slotwire.ingest.mcp.events.cursors import CursorScope
from slotwire.ingest.mcp.events.subscriptions import slot_of, subscription_id
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.schemas.events import BY_TYPE, InviteeCreated
from slotwire.schemas.ids import last_segment
from tests.support.mcp_events import KEY, ORGANIZATIONS, GivenAgents, opened_events

AGENTS = 2_500
"""Agents that share the subscriptions."""
POLL_SECONDS = 0.05
_INSERT = """
INSERT INTO slotwire.mcp_subscriptions (id, slot, agent, user_uri, org, shard, name, arguments, url, profile, secret,
    position, version, created_at, changed_at, expires_at)
VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, 'draft', $9, $10, 1, $11, $11, $12)
"""


async def receive(port: int) -> None:
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
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await _until_signal()
    await runner.cleanup()


async def deliver(
    database_url: str, org: str, user: str, port: int, subscriptions: int, matching: int, position: int
) -> None:
    """Make the subscriptions and deliver."""
    agents, stop = GivenAgents(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = await asyncpg.connect(database_url)
    sealing, now = SealingKeys({"k1": KEY}, "the bench"), SystemClock().now()
    rows = []
    for number in range(subscriptions):
        agent = UUID(int=number % AGENTS + 1)
        agents.given[agent, user] = AgentPrincipal(
            agent=agent,
            name="bench",
            organization=f"{ORGANIZATIONS}{org}",
            user=user,
            tools=frozenset(),
            event_types=frozenset(BY_TYPE),
            chain=None,
            expires_at=now + timedelta(days=1),
        )
        domain = "example.com" if number < matching else f"d{number}.example"
        arguments, url = json.dumps({"invitee_domain": domain}), f"http://127.0.0.1:{port}/{number}"
        name = InviteeCreated.type
        made = subscription_id(CursorScope((str(agent), user), name, arguments), url)
        secret = sealing.seal(b"s" * 32, context=("mcp_subscriptions", made))
        rows.append((made, slot_of(made), agent, user, org, name, arguments, url, secret, position, now))
    await connection.executemany(_INSERT, [(*row, now + timedelta(days=1)) for row in rows])
    await connection.close()
    async with opened_events(database_url, agents, clock=SystemClock()) as made_events:
        events = made_events()
        task = asyncio.create_task(events.run(stop))
        while len(events.deliveries.held) < subscriptions or any(  # noqa: ASYNC110 - nothing in it is added for the bench
            each.task is not None or each.follower is None for each in events.deliveries.held.values()
        ):
            await asyncio.sleep(POLL_SECONDS)  # the process that is measured gives no signal
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await task


async def _until_signal() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner_:
        if sys.argv[1] == "receive":
            runner_.run(receive(int(sys.argv[2])))
        else:
            runner_.run(deliver(**json.loads(sys.argv[2])))
