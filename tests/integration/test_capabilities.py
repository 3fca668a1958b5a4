"""What a connection can do is asked at Calendly, kept, and shown by command and by HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.control import capabilities
from slotwire.ingest.local.databases import Database
from tests.support.command import environment, slotwire
from tests.support.connections_setup import NOW, ConnectionsSetup, connections_setup


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Two organizations at a simulator, known here and not connected."""
    async with connections_setup(database) as made:
        yield made


async def test_scopes_plans_and_roles_are_told_apart(setup: ConnectionsSetup) -> None:
    """A member whose token has few scopes: what it may, and for the rest whether to tick, to buy or to be promoted."""
    scopes = ["users:read", "contacts:write", "groups:read", "activity_log:read", "event_types:read"]
    member = (await setup.connections.add(await setup.issue(2, scopes=scopes))).connection
    assert await capabilities.read(setup.pool, member) is None
    made = await capabilities.probe(setup.connections, member)
    found = {each.name: each for each in made.found}
    assert set(found) == set(capabilities.PROBES)
    assert (found["contacts"].reads, found["contacts"].writes, found["contacts"].why) == (True, True, None)
    assert (found["event_types"].reads, found["event_types"].writes) == (True, False)
    assert found["webhooks"].why == "scope"
    assert "Tick these scopes" in (found["webhooks"].remedy or "")
    assert (found["groups"].reads, found["groups"].why) == (False, "permission")
    assert (found["activity_log"].reads, found["activity_log"].why) == (False, "plan")
    assert "the owner of the organization at Calendly can upgrade" in (found["activity_log"].remedy or "")
    assert await capabilities.read(setup.pool, member) == made
    assert made.probed_at == NOW


async def test_the_command_asks_and_shows(setup: ConnectionsSetup) -> None:
    """`connections probe` asks and shows a table; `show` says the same afterwards, and before how to ask."""
    owner = (await setup.connections.add(setup.token())).connection
    env = environment(setup.settings, SLOTWIRE_CALENDLY__API_URL=setup.settings.calendly.api_url)
    before = await slotwire("connections", "show", str(owner.id), env=env)
    assert f"not asked yet: slotwire connections probe {owner.id}" in before.stdout
    asked = await slotwire("connections", "probe", str(owner.id), env=env)
    assert (asked.code, asked.stderr) == (0, "")
    shown = json.loads((await slotwire("connections", "show", str(owner.id), "--json", env=env)).stdout)
    able = {each["name"]: each["reads"] for each in shown["can"]["capabilities"]}
    assert able == {name: name not in {"activity_log", "outgoing_communications"} for name in capabilities.PROBES}
    assert shown["can"]["plan"] == "professional"
    for line in ("professional (paid)", "contacts", "WHAT HELPS", "the plan enterprise"):
        assert line in asked.stdout
