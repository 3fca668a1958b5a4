"""No relay for a long time: the answers go on, up to the limit of what may wait, and then it drains in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.local.databases import Database
from tests.support.public_endpoint import invitee_body, make_hook, new_invitee, running_endpoint, settings_for
from tests.support.relay_setup import RelaySetup, committed_records, ids, in_order, relay_setup, running_relay

LIMIT_BYTES = 2_000_000
DELIVERIES = 5_000
"""More than the limit lets in, at 0.8 kB each with what a row costs beside its body."""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def test_without_a_relay_answers_go_on_to_the_limit_and_nothing_is_lost(
    setup: RelaySetup, database: Database
) -> None:
    """2xx up to the limit in bytes, then 503; a relay that comes back publishes what was let in, in order."""
    settings = settings_for(database, max_unwritten_bytes=LIMIT_BYTES)
    hook = await make_hook(settings, database)
    accepted: set[str] = set()
    statuses: list[int] = []
    async with running_endpoint(settings) as endpoint:
        while 503 not in statuses:
            assert len(statuses) < DELIVERIES
            invitees = [new_invitee() for _ in range(50)]
            answers = await asyncio.gather(*(endpoint.deliver(hook, invitee_body(invitee=each)) for each in invitees))
            statuses += [answer.status_code for answer in answers]
            accepted |= {uri for uri, answer in zip(invitees, answers, strict=True) if answer.status_code == 200}
        assert set(statuses) == {200, 503}
        async with running_relay(setup.settings):
            records = await committed_records(setup.settings, len(accepted))
        assert (await endpoint.deliver(hook, invitee_body())).status_code == 200
    assert ids(records) == (await setup.log_ids())[: len(accepted)]
    assert in_order(records)
    subjects = await setup.owner.fetch("SELECT subject FROM slotwire.events")
    assert {row["subject"] for row in subjects} == accepted
    used = await setup.owner.fetchval("SELECT max(total) FROM slotwire.deliveries WHERE position <= $1", len(accepted))
    assert LIMIT_BYTES * 0.9 < used <= LIMIT_BYTES
