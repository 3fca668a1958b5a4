"""Whatever is signed is answered 2xx and kept: as an event, as a copy, or in quarantine, and the count adds up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.codec import Attributes, decode, encode_headers
from tests.support.fuzzing import any_bodies, valid_bodies
from tests.support.public_endpoint import PATIENT_SECONDS, Endpoint, Hook, make_hook, running_endpoint, settings_for
from tests.support.writing import DELIVERIES, write_all

BODIES = 24
"""Deliveries of one example at the most: sent at once, so that they meet in few commits."""
_ROUND = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Setup:
    """A running endpoint and what is behind it."""

    settings: Settings
    endpoint: Endpoint
    hook: Hook
    owner: asyncpg.Connection[asyncpg.Record]

    async def empty(self) -> None:
        """Forget all that was sent: each example stands alone, so that a failure can be made small."""
        await self.owner.execute(
            "TRUNCATE slotwire.deliveries, slotwire.results, slotwire.events, slotwire.identities, slotwire.bookings,"
            " slotwire.quarantine"
        )

    async def rows(self, table: str) -> list[Any]:
        """Read a table whole; deliveries with what became of them."""
        source = f"{DELIVERIES} AS d" if table == "deliveries" else f"slotwire.{table}"
        return list(await self.owner.fetch(f"SELECT * FROM {source}"))

    async def send(self, bodies: list[bytes]) -> list[int]:
        """Deliver bodies at once."""
        answers = await asyncio.gather(*(self.endpoint.deliver(self.hook, body) for body in bodies))
        return [answer.status_code for answer in answers]


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[Setup]:
    """An endpoint on a database of the test's own."""
    made = settings_for(database, answer_deadline_seconds=PATIENT_SECONDS)
    hook = await make_hook(made, database)
    owner = await asyncpg.connect(database.owner_url)
    try:
        async with running_endpoint(made) as endpoint:
            yield Setup(made, endpoint, hook, owner)
    finally:
        await owner.close()


async def check(setup: Setup, bodies: list[bytes], outcomes: set[str]) -> None:
    """Send bodies; each is answered 200 and kept byte for byte, with one of these outcomes.

    Each event is stored by one delivery and told again by its copies; a clear whose mark is not known yet waits in
    its booking; each that is quarantined has a reason, and no event.
    """
    await setup.empty()
    assert await setup.send(bodies) == [200] * len(bodies)
    await write_all(setup.settings)
    deliveries = await setup.rows("deliveries")
    assert Counter(row["body"] for row in deliveries) == Counter(bodies)
    assert {row["outcome"] for row in deliveries} <= outcomes
    by_outcome = {name: [row for row in deliveries if row["outcome"] == name] for name in outcomes}
    events = {row["event_id"]: row for row in await setup.rows("events")}
    clears = [each for row in await setup.rows("bookings") for each in orjson.loads(row["clears"])]
    told = [row["event_id"] for row in by_outcome["stored"] if row["event_id"]]
    waiting = {str(row["id"]) for row in by_outcome["stored"] if not row["event_id"]}
    assert len(told) == len(set(told))
    assert {row["event_id"] for row in deliveries if row["event_id"]} <= events.keys()
    assert waiting <= {each["delivery"] for each in clears}
    kept = {row["delivery_id"] for row in await setup.rows("quarantine") if row["reason"]}
    assert kept == {row["id"] for row in by_outcome.get("quarantined", ())}
    assert kept.isdisjoint({row["delivery_id"] for row in events.values()})
    for row in events.values():
        check_readable(row)


def check_readable(row: Any) -> None:
    """Let a consumer read an event of the log."""
    attributes = Attributes(
        row["event_id"], row["type"], row["org"], row["subject"], row["time"], row["key"], row["position"]
    )
    assert decode(encode_headers(attributes), row["data"]).id == row["event_id"]


@settings(_ROUND, max_examples=20)
@given(bodies=st.lists(any_bodies(), min_size=1, max_size=BODIES))
async def test_every_body_is_answered_and_stored(bodies: list[bytes], setup: Setup) -> None:
    """Valid and broken bodies in one commit: none fails its neighbours, none is lost."""
    await check(setup, bodies, {"stored", "duplicate", "quarantined"})


@settings(_ROUND, max_examples=12)
@given(bodies=st.lists(valid_bodies(), min_size=1, max_size=BODIES))
async def test_a_valid_body_is_never_quarantined(bodies: list[bytes], setup: Setup) -> None:
    """Whatever Calendly's words allow becomes events, or is a copy of one."""
    await check(setup, bodies, {"stored", "duplicate"})


@pytest.mark.soak
@settings(_ROUND, max_examples=1_500)
@given(bodies=st.lists(any_bodies(), min_size=8, max_size=BODIES))
async def test_every_body_is_answered_and_stored_soak(bodies: list[bytes], setup: Setup) -> None:
    """The same over some twenty thousand deliveries."""
    await check(setup, bodies, {"stored", "duplicate", "quarantined"})
