"""How many webhook subscriptions an agent may have for a user, on more than one replica."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from slotwire.ingest.local.databases import Database
from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused
from slotwire.ingest.mcp.events.subscribe import MAX_SUBSCRIPTIONS
from tests.support.blocked import HELD_UP, until_blocked
from tests.support.mcp_events import CREATED, SECRET, mcp_world, subscriber

COLUMNS = "slot, agent, user_uri, org, shard, name, url, profile, secret, position, version, created_at, changed_at"


async def test_subscriptions_are_counted_one_at_a_time(database: Database) -> None:
    """Of two requests at once, at two replicas, the last one that fits is made, and one more is refused."""
    async with mcp_world(database, pool=HELD_UP) as world, subscriber() as hook:
        agent = world.agent()
        made = await world.subscribe(agent, hook.url)
        await world.owner.execute(
            f"INSERT INTO slotwire.mcp_subscriptions (id, arguments, expires_at, {COLUMNS})"
            f" SELECT md5(n::text), arguments, expires_at, {COLUMNS}"
            " FROM slotwire.mcp_subscriptions, generate_series(3, $2) n WHERE id = $1",
            *(made["id"], MAX_SUBSCRIPTIONS),
        )
        delivery = {"mode": "webhook", "url": hook.url, "secret": SECRET}
        asked = [{"name": CREATED, "arguments": {"origin": each}, "delivery": delivery} for each in ("webhook", "own")]
        replicas = (world.events, world.another())
        async with asyncio.TaskGroup() as group, world.owner.transaction():
            # Until both have counted, or one waits for the other.
            await world.owner.execute("LOCK TABLE slotwire.mcp_subscriptions IN SHARE MODE")
            both = [
                group.create_task(refusal(replica.subscribing.subscribe(agent, each)))
                for replica, each in zip(replicas, asked, strict=True)
            ]
            await until_blocked(world.owner, len(both))
        assert {task.result() for task in both} == {None, EventsProblem.RESOURCE_EXHAUSTED}
        assert await world.owner.fetchval("SELECT count(*) FROM slotwire.mcp_subscriptions") == MAX_SUBSCRIPTIONS
        assert (await world.subscribe(agent, hook.url))["id"] == made["id"], "one that is there is refreshed"


async def refusal(asked: Awaitable[object]) -> EventsProblem | None:
    """Return why a request is refused; None where it is not."""
    try:
        await asked
    except EventsRefused as refused:
        return refused.problem
    return None
