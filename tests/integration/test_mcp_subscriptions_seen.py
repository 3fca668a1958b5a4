"""What operators see of webhook subscriptions of MCP Events, and how they end one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import orjson
import pytest

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate import doctor_agents
from slotwire.ingest.operate.mcp_subscription_models import McpSubscriptionQuery
from slotwire.ingest.operate.roles import COMMAND_LINE, Principal, Role
from slotwire.schemas.events import BY_TYPE
from tests.support.command import environment, slotwire
from tests.support.management_api import management_api
from tests.support.mcp_events import Subscriber, World, booked, delivering, mcp_world, subscriber, until
from tests.support.public_endpoint import settings_for

_AGENT = """
INSERT INTO slotwire.mcp_agents (id, name, hash, orgs, users, tools, event_types, label, created_at)
VALUES ($1, 'assistant', sha256('x'), '{A}', '{}', '{}', $2, '', $3)
"""


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """A log, agents, and the methods on it."""
    async with mcp_world(database, now=SystemClock().now()) as made:
        yield made


@pytest.fixture
async def hook() -> AsyncIterator[Subscriber]:
    """A webhook on this machine."""
    async with subscriber() as made:
        yield made


async def test_operators_see_how_each_comes_on_and_end_it(world: World, hook: Subscriber, database: Database) -> None:
    """State, watermark, lag and reason, no secret, no address; a stuck one is found; after its end nothing comes."""
    agent, url = world.agent(), f"{hook.url}/capability?token=hidden"
    await world.owner.execute(_AGENT, agent.agent, sorted(BY_TYPE), world.clock.now())
    start = await world.publish(booked(1))
    made = UUID((await world.subscribe(agent, url, ttlMs=None))["id"])
    settings = settings_for(database)
    async with management_api(settings, clock=world.clock) as api, delivering(world.events) as deliveries:
        subscriptions = api.actions.mcp_subscriptions
        fresh = await subscriptions.get(COMMAND_LINE, made)
        assert (fresh.state, fresh.watermark, fresh.lag_seconds, fresh.host) == ("active", start, 0, "127.0.0.1")
        hook.statuses = [500]
        await world.publish(booked(2))
        await until(lambda: _has_tried(world, made))
        ran = await slotwire("mcp", "subscriptions", "list", "--state", "failing", "--json", env=environment(settings))
        [listed] = [json.loads(line) for line in ran.stdout.splitlines()]
        assert (listed["id"], listed["agent_name"], listed["last_error"]) == (made.hex, "assistant", "http_5xx")
        assert (listed["watermark"], listed["tries"], listed["organization"]) == (start, 1, "A")
        assert "capability" not in ran.stdout
        assert "hidden" not in ran.stdout
        control = await asyncpg.connect(database.url_of["control"])
        try:
            assert (await doctor_agents.mcp_subscriptions(control, world.clock)).state == "ok"
            late = ManualClock(world.clock.now() + timedelta(minutes=11))
            found = await doctor_agents.mcp_subscriptions(control, late)
        finally:
            await control.close()
        assert (found.state, found.message) == ("warning", "do not come on: assistant at 127.0.0.1 (http_5xx)")
        for stranger in (Principal(Role.OPERATOR, "B"), Principal(Role.READER, "A")):
            with pytest.raises(RequestRefused):
                await subscriptions.delete(stranger, made)
        assert (await subscriptions.list(Principal(Role.READER, "B"), McpSubscriptionQuery())).items == ()
        await subscriptions.delete(COMMAND_LINE, made)
        await until(lambda: len(hook.messages) == 2)
        await world.publish(booked(3))
        await until(lambda: not deliveries.held)
    assert orjson.loads(hook.messages[1].body)["type"] == "terminated"
    assert len(hook.messages) == 2


async def _has_tried(world: World, subscription: UUID) -> bool:
    return bool((await world.subscription(subscription.hex))["tries"])
