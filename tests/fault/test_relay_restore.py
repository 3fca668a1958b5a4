"""A former leader's append, and a log that was restored: what would be lost or doubled without each check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from slotwire.ingest.errors import LeadershipLost
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.batch import EventRow
from slotwire.ingest.log.writer import Appended, Writer
from slotwire.ingest.relay.handoff import Handoff
from tests.support.door import add_organization, let_in, plant
from tests.support.public_endpoint import invitee_body
from tests.support.relay_setup import (
    RelaySetup,
    committed_records,
    drain,
    ids,
    leading_relay,
    relay_setup,
    running_relay,
    sequence,
    until,
)

ANY_LEADER = (
    ("(h.epoch, h.version) = (p_epoch, p_version)", "true"),
    (
        "version, epoch, p_position, p_total,",
        "version, epoch, greatest(h.position, p_position), greatest(h.total, p_total),",
    ),
)
"""Whoever appends may."""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own, with organization A made known."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        await add_organization(made.owner)
        yield made


class Trusting(Handoff):
    """Takes what was appended as following what it knows."""

    def add(self, appended: Appended) -> None:
        """Take over what was appended, whatever was before it."""
        super().add(replace(appended, after=self.end))


class Sleeping(Writer):
    """Sleeps between what it has read and its append."""

    asleep: asyncio.Event
    awake: asyncio.Event

    async def _call(self, name: str, *arguments: object) -> Any:
        if name == "append":
            self.asleep.set()
            await self.awake.wait()
            # Its deliveries are settled meanwhile; naively, only their events count.
            if self.naive:
                arguments = (*arguments[:4], 0, 0, [], _renamed(arguments[7]), "[]", "[]")
        return await super()._call(name, *arguments)

    naive = False


def _renamed(rows: Any) -> list[EventRow]:
    """Give events other ids: as of a fact that the successor did not write."""
    return [row._replace(id=row.id.__class__(int=row.id.int ^ 1)) for row in rows]


async def _published(setup: RelaySetup, handoff: Handoff, *, naive: bool) -> tuple[list[str | None], bool]:
    """Let a former leader append after its successor took over, and the successor publish; whether that was refused."""
    await let_in(setup.owner, invitee_body())
    former = Sleeping(setup.settings, 0, SystemClock())
    former.asleep, former.awake, former.naive = asyncio.Event(), asyncio.Event(), naive
    await former.take_over()
    step = asyncio.ensure_future(former.step())
    await former.asleep.wait()
    successor, refused = Writer(setup.settings, 0, SystemClock()), False
    async with leading_relay(setup.settings, handoff=handoff) as (relay, _):
        handoff.begin((await successor.take_over()).last_event)
        await drain(relay)
        former.awake.set()
        try:
            await step
        except LeadershipLost:
            refused = True
        if naive:
            await successor.take_over()  # its own compare would refuse it, which is not what is shown
        while appended := await successor.step():
            for each in appended:
                handoff.add(each)
        await drain(relay)
    await former.close()
    await successor.close()
    return ids(await committed_records(setup.settings, 1)), refused


async def test_a_former_leader_s_append_is_refused_and_nothing_is_skipped(setup: RelaySetup) -> None:
    """It read before its successor took over, and appends after it: it is refused, and Kafka has all of the log."""
    published, refused = await _published(setup, Handoff(), naive=False)
    assert refused
    assert published == await setup.log_ids()
    assert len(published) == 1


async def test_without_the_epoch_and_the_event_before_a_former_leader_s_event_is_lost(setup: RelaySetup) -> None:
    """Naively its event is in the log, and never in Kafka: the cursor passes it."""
    await plant(setup.owner, "append", *ANY_LEADER)
    published, refused = await _published(setup, Trusting(), naive=True)
    assert not refused
    log = await setup.log_ids()
    assert len(log) == 2
    assert published == log[1:]


async def test_without_the_epoch_the_event_before_still_saves_it(setup: RelaySetup) -> None:
    """What was appended does not follow what the publisher knows, so the log is read."""
    await plant(setup.owner, "append", *ANY_LEADER)
    published, _ = await _published(setup, Handoff(), naive=True)
    assert published == await setup.log_ids()
    assert len(published) == 2


async def _restored(setup: RelaySetup, *, server: str | None) -> None:
    """Publish five events, then restore the database to when there were two, with a delivery that waits."""
    async with running_relay(setup.settings):
        await setup.accept(5)
        await committed_records(setup.settings, 5)
    await setup.owner.execute(
        "DELETE FROM slotwire.identities WHERE position > 2; DELETE FROM slotwire.events WHERE position > 2;"
        " DELETE FROM slotwire.results WHERE position > 2; DELETE FROM slotwire.deliveries WHERE position > 2;"
        " DELETE FROM slotwire.bookings b WHERE NOT EXISTS"
        " (SELECT FROM slotwire.events e WHERE e.subject = b.invitee);"
        " UPDATE slotwire.heads SET position = 2, last_event = 2, attempts_at = 2;"
        " UPDATE slotwire.relay_mirror SET position = 2,"
        " event_id = (SELECT event_id FROM slotwire.events WHERE position = 2);"
        " SELECT setval('slotwire.positions', 2), setval('slotwire.accepted_0', 2)"
    )
    if server is not None:
        await setup.owner.execute("UPDATE slotwire.heads SET server = $1", server)
    await setup.accept(1)


async def _waits(setup: RelaySetup) -> bool:
    """Tell whether nothing was appended since the restore."""
    return await setup.log_ids() == await setup.log_ids() and len(await setup.log_ids()) == 2


@pytest.mark.parametrize("server", ["another/00000002", None], ids=["another server", "the same one"])
async def test_a_restored_log_waits_and_goes_on_beyond_what_was_published(
    setup: RelaySetup, server: str | None
) -> None:
    """Accept goes on; nothing is appended while the cursor is beyond the log; then no position has two events."""
    await _restored(setup, server=server)

    async with running_relay(setup.settings) as health:

        async def told() -> bool:
            return "cursor" in (await health.problems()).get("relay", "")

        await until(told)
        await setup.accept(1)
    assert await _waits(setup)
    async with running_relay(setup.settings, cursor_from="mirror"):
        records = await committed_records(setup.settings, 7)
    positions = [sequence(record) for record in records]
    assert positions[:5] == [1, 2, 3, 4, 5]
    assert len(set(positions)) == 7


async def test_naively_positions_are_published_twice(setup: RelaySetup) -> None:
    """Without the jump beyond what was published, a restored log gives positions away a second time."""
    await plant(setup.owner, "pass_over_positions", ("last_value < p_published", "false"))
    await _restored(setup, server="another/00000002")
    async with running_relay(setup.settings, cursor_from="mirror"):
        records = await committed_records(setup.settings, 6)
    positions = [sequence(record) for record in records]
    assert len(set(positions)) < len(positions)


async def test_a_stop_while_the_cursor_is_not_known_appends_nothing(setup: RelaySetup) -> None:
    """On another server, with Kafka out of reach, a relay that is stopped leaves the log as it was."""
    await setup.owner.execute("UPDATE slotwire.heads SET server = 'another/00000002'")
    away = setup.settings.model_copy(
        update={"kafka": setup.settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})}
    )
    async with running_relay(away) as health:

        async def told() -> bool:
            return "Kafka" in (await health.problems()).get("relay", "")

        await until(told)
        await setup.accept(3)
    assert await setup.log_ids() == []
    async with running_relay(setup.settings):
        assert len(await committed_records(setup.settings, 3)) == 3
