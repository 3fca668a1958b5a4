"""A standby that becomes the primary: the log goes on there once it is known what was published."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.errors import DatabaseUnavailable
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.log.writer import Writer
from tests.support.relay_setup import (
    RelaySetup,
    committed_records,
    ids,
    in_order,
    relay_setup,
    running_relay,
    sequence,
    until,
)
from tests.support.standby import Pair, primary_and_standby

_SERVER = "SELECT server FROM slotwire.heads ORDER BY version DESC LIMIT 1"
_SUBJECTS = "SELECT count(DISTINCT subject) FROM slotwire.events"


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A primary and a standby of the test's own."""
    async with primary_and_standby() as made:
        yield made


def without_kafka(settings: Settings) -> Settings:
    """Return the settings of a relay that does not reach its broker."""
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})})


async def test_after_a_promotion_nothing_is_appended_before_the_cursor_was_read_and_nothing_is_lost(
    pair: Pair, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Written, unwritten and newly accepted: all of it reaches Kafka once, in order, from the new timeline."""
    async with relay_setup(pair.on_primary, kafka_bootstrap, topic_prefix) as before:
        await pair.require_standby()
        async with running_relay(before.settings):
            await before.accept(5)
            published = ids(await committed_records(before.settings, 5))
        await before.accept(3)
        server = await before.owner.fetchval(_SERVER)
        await pair.primary.kill()
    await pair.standby.promote()

    async with relay_setup(pair.on_standby, kafka_bootstrap, topic_prefix) as after:
        assert await after.log_ids() == published
        async with running_relay(without_kafka(after.settings)) as health:

            async def told() -> bool:
                return "Kafka" in (await health.problems()).get("relay", "")

            await until(told)
            await after.accept(2)
        assert await after.log_ids() == published
        async with running_relay(after.settings):
            records = await committed_records(after.settings, 10)
        assert ids(records)[:5] == published
        assert ids(records) == await after.log_ids()
        assert in_order(records)
        assert await after.owner.fetchval(_SUBJECTS) == 10
        system, _, timeline = (await after.owner.fetchval(_SERVER)).partition("/")
        assert (server, timeline) == (f"{system}/00000001", "00000002")


async def test_a_writer_appends_nothing_on_a_promoted_server_that_it_has_not_adopted(
    pair: Pair, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """The writer itself holds, whoever runs it; adopted, it writes what was accepted before and after."""
    async with relay_setup(pair.on_primary, kafka_bootstrap, topic_prefix, topics=False) as before:
        await before.accept(1)
        await pair.caught_up()
    await pair.primary.kill()
    await pair.standby.promote()
    async with relay_setup(pair.on_standby, kafka_bootstrap, topic_prefix, topics=False) as after:
        await after.accept(1)
        writer = Writer(after.settings, 0, SystemClock())
        assert not (await writer.take_over()).same_server
        with pytest.raises(DatabaseUnavailable, match="another server"):
            await writer.step()
        assert await after.log_ids() == []
        await writer.take_over()
        await writer.adopt_server(7)
        [appended] = await writer.step()
        assert appended.positions == [8, 9]
        await writer.leave()
        assert (await writer.take_over()).same_server
        await writer.close()


async def test_a_standby_that_lagged_behind_what_was_published_waits_for_an_operator(
    pair: Pair, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Published events are missing there: the relay holds, and then no position has two events."""
    async with (
        relay_setup(pair.on_primary, kafka_bootstrap, topic_prefix) as before,
        running_relay(before.settings),
    ):
        await before.accept(2)
        await committed_records(before.settings, 2)
        await _mirrored(before, 2)
        await pair.caught_up()
        await pair.standby.stop()
        await before.accept(3)
        lost = ids(await committed_records(before.settings, 5))[2:]
        await pair.primary.kill()
    await pair.standby.start()
    await pair.standby.promote()

    async with relay_setup(pair.on_standby, kafka_bootstrap, topic_prefix) as after:
        await after.accept(4)
        async with running_relay(after.settings) as health:

            async def told() -> bool:
                return "cursor" in (await health.problems()).get("relay", "")

            await until(told)
        assert len(await after.log_ids()) == 2
        async with running_relay(after.settings, cursor_from="mirror"):
            records = await committed_records(after.settings, 9)
        assert ids(records)[2:5] == lost
        assert len({sequence(record) for record in records}) == 9
        assert set(await after.log_ids()) == set(ids(records)) - set(lost)


async def _mirrored(setup: RelaySetup, position: int) -> None:
    async def mirrored() -> bool:
        return bool(await setup.owner.fetchval("SELECT position = $1 FROM slotwire.relay_mirror", position))

    await until(mirrored)
