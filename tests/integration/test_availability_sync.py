"""Availability: table and topic are what Calendly says, one process writes them, and what is gone has its tombstone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from slotwire.handlers.agents.availability_sync.feed import opened_feed
from slotwire.handlers.agents.availability_sync.store import HOLD, TakenOver, hold
from slotwire.handlers.reach.calendly import ControlledCalls
from slotwire.handlers.testing import event_of
from slotwire.ingest.cli.acting import read_pages
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.errors import BrokerUnavailable, ControlUnavailable, RequestRefused
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.availability_models import AvailabilityQuery
from slotwire.ingest.operate.doctor_availability import availability
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.model import uri
from slotwire.schemas.events import ConnectionRestored, ConnectionRevoked, EventTypeUpdated
from tests.support.altered_calendly import Answer
from tests.support.availability_setup import SETTINGS, AvailabilitySetup, availability_setup
from tests.support.dying import dying

CONNECTION: dict[str, Any] = {
    "connection_id": UUID(int=1),
    "credential_id": UUID(int=2),
    "organization": "https://api.calendly.com/organizations/ORG",
    "user": "https://api.calendly.com/users/OWNER",
    "kind": "oauth",
}


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AvailabilitySetup]:
    """One organization, connected."""
    async with availability_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def test_a_mixed_run_with_faults_and_deaths_ends_as_calendly_says(setup: AvailabilitySetup) -> None:
    """Meetings come, move and go, event types begin and end, calls fail and rounds die: then all three agree."""
    world, draws = setup.world, Draws("availability", 1)
    engine, owner = world.calendly.engine, world.calendly.world.members(world.org)[0]
    await setup.until_current()
    await setup.agrees()
    offers = [each for each in world.calendly.world.offers(world.org) if each.owner == owner.id and each.limit == 1]
    died, last = 0, await setup.told(0)
    for step in range(4):
        moved = world.book_directly(start=world.start(26 + step), event_type=offers[step % 2].id)
        if step % 3 == 1:
            engine.cancel(moved.id)
        if step == 2:
            engine.changes.event_type(replace(offers[-1], active=False))
            kind = uri("event_types", offers[-1].id)
            await setup.trial.deliver(event_of(EventTypeUpdated(uri=kind), organization=world.org))
        last = await setup.told(last)
        await world.faults(rest_error_rate=0.05 if step == 1 else 0.0)
        place = 1 + draws.below(60)
        task = asyncio.ensure_future(dying(setup.round(), place, cut=None))
        await asyncio.wait({task})
        died += task.cancelled()
        assert task.cancelled() or isinstance(task.exception(), SlotwireError | None)
        await world.faults()
        await world.advance(minutes=7)
    assert died
    await setup.fire()
    await setup.agrees()
    [gone] = [key for key, value in (await setup.records()).items() if value is None]
    assert gone.endswith(offers[-1].id.encode())


async def test_one_writes_and_a_later_one_shuts_it_out(setup: AvailabilitySetup) -> None:
    """While one holds the organization no other writes; after its time another does, and the first neither way.

    What nobody can read any more is gone, with tombstones.
    """
    world = setup.world
    first = await hold(setup.agents, world.clock, world.org, writer="first")
    assert first is not None
    assert await setup.round(writer="second") is None
    async with opened_feed(setup.kafka, world.org) as feed:
        await world.advance(seconds=HOLD.total_seconds())
        made = await setup.round(writer="second")
        assert made is not None
        assert made.published == len(await setup.at_calendly())
        with pytest.raises(TakenOver):
            await first.write([], begun=world.clock.now())
        assert await first.unpublished(10) == ()
        with pytest.raises(BrokerUnavailable):
            await feed.publish([(b"stale", b"{}")])
    [row] = await world.rows("SELECT writer, held_until, epoch FROM slotwire.availability_writers")
    assert tuple(row) == ("second", None, 2)
    await operators_see(setup)
    await others_may_not(setup)
    await one_calendar_is_away(setup)
    await nobody_can_read(setup)


async def operators_see(setup: AvailabilitySetup) -> None:
    """Page after page, all of it, with who wrote it; by user; and the doctor says how old it is."""
    actions, kept = setup.world.actions, await setup.in_table()
    first = AvailabilityQuery(limit=4)
    found = await read_pages(lambda query: actions.availability.list(COMMAND_LINE, query), first)
    assert [(each.user, each.event_type) for each in found] == sorted(kept)
    assert {(each.published, each.gone, each.writer) for each in found} == {(True, False, "second")}
    user = found[0].user
    narrowed = await actions.availability.list(COMMAND_LINE, AvailabilityQuery(user=user, limit=100))
    assert {each.event_type for each in narrowed.items} == {kind for whose, kind in kept if whose == user}
    async with setup.world.actions.pool.acquire() as connection:
        for hours, state in ((0, "ok"), (2, "warning")):
            setup.world.calendly.engine.advance(timedelta(hours=hours))
            assert (await availability(connection, setup.world.clock)).state == state


async def others_may_not(setup: AvailabilitySetup) -> None:
    """An agent that is not named reads for its event only, and one that is for its organization only."""
    control, clock = setup.calls.control, setup.world.clock
    another = ControlledCalls(setup.agents, control, agent="another", clock=clock)
    grant = await another.grant(setup.calls.one)
    with pytest.raises(RequestRefused, match="names no user_uri"):
        await another.call(grant, "list-event-types", {"active": ["true"]})
    grant = await setup.calls.grant(setup.calls.one)
    with pytest.raises(RequestRefused, match="organization reaches beyond"):
        await setup.calls.call(grant, "list-event-types", {"organization": ["ANOTHER"]})


async def one_calendar_is_away(setup: AvailabilitySetup) -> None:
    """A user whose own calendar Calendly cannot reach holds up no other, and is read with a later round."""
    world = setup.world
    away = uri("users", world.calendly.world.members(world.org)[1].id)

    def alter(request: web.Request, *_: object) -> Answer | None:
        asked = request.path.endswith("/user_busy_times") and request.query["user"] == away
        return (424, {"title": "External Calendar Error", "message": "It cannot be reached."}) if asked else None

    assert world.between is not None
    world.between.alter = alter
    await world.advance(minutes=SETTINGS.refresh_minutes)
    with pytest.raises(ControlUnavailable):
        await setup.round()
    old = "SELECT DISTINCT user_uri FROM slotwire.availability WHERE read_at < $1"
    stale = await world.rows(old, world.clock.now())
    assert [row["user_uri"] for row in stale] == [away]
    world.sees()
    await setup.round()
    await setup.agrees()


async def nobody_can_read(setup: AvailabilitySetup) -> None:
    """No connection can act: tombstones for all. When one can again all is there, and after a switch-off nothing."""
    await setup.world.rows("UPDATE slotwire.connections SET state = 'error', reason = 'test'")
    ended = ConnectionRevoked(**CONNECTION, reason="refused", noticed_at=setup.world.clock.now())
    await setup.trial.deliver(event_of(ended, organization=setup.world.org))
    assert (await setup.in_table(), await setup.in_topic()) == ({}, {})
    await setup.world.rows("UPDATE slotwire.connections SET state = 'active', reason = NULL")
    await setup.trial.deliver(
        event_of(ConnectionRestored(**CONNECTION, restored_at=setup.world.clock.now()), organization=setup.world.org)
    )
    await setup.fire()
    await setup.agrees()
    await setup.round(settings=None)
    assert (await setup.in_table(), await setup.in_topic()) == ({}, {})
