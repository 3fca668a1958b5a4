"""No relay for a day: the answers go on, up to the limit of what may wait, and then it drains in order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter

import pytest

from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor import UNWRITTEN_WARNING, examine
from slotwire.schemas.ids import last_segment
from tests.support.public_endpoint import (
    Endpoint,
    Hook,
    invitee_body,
    make_hook,
    new_invitee,
    running_endpoint,
    settings_for,
)
from tests.support.relay_setup import RelaySetup, each_committed, header, relay_setup, running_relay, sequence

RATE, LIMIT_BYTES = 100, 21_474_836_480
"""What docs/reference/settings.md states: at this many deliveries a second the default limit lasts a day."""
CHUNKS = 288
"""Commits of the day, one for five minutes; an hour has twelve."""
BODY_BYTES = 2_100
"""Of a delivery: with what a row costs beside it, a day at the rate takes 95 % of the limit."""
ROW_BYTES = 256
"""What a row costs beside its body, towards the limit."""
PROBES = 5
"""Deliveries sent by HTTP in each hour."""
_FILL = """
SELECT slotwire.accept(0::smallint, $1, $2, array_agg(ROW(
    gen_random_uuid(), $3::text, NULL, 'webhook', $1, $1, false, '', NULL, NULL,
    convert_to(replace($4, 'NUMBER', n::text), 'UTF8'), NULL)::slotwire.accepting ORDER BY n))
FROM generate_series($5::integer, $6::integer) AS n
"""
_OUT_OF_ORDER = """
SELECT count(*) FROM (
    SELECT d.position, lag(d.position) OVER (ORDER BY e.position) AS before
    FROM slotwire.events e JOIN slotwire.deliveries d ON d.id = e.delivery_id
) AS log WHERE position < before
"""


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[RelaySetup]:
    """A log, topics and a writer of the test's own."""
    async with relay_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


@dataclass
class Day:
    """A day of deliveries without a relay, at a fraction of the stated rate and limit.

    Attributes:
        clock: where the day has come to. It begins now and crosses into a new range of positions.
        answered: the invitees whose deliveries were answered 200 over HTTP, and how many seconds each answer took.
    """

    setup: RelaySetup
    settings: Settings
    hook: Hook
    endpoint: Endpoint
    clock: ManualClock
    answered: dict[str, float] = field(default_factory=dict)
    filled: int = 0

    async def deliver(self, invitee: str) -> int:
        """Send a delivery; return the status."""
        begun = perf_counter()
        answer = await self.endpoint.deliver(self.hook, invitee_body(invitee=invitee))
        if answer.status_code == 200:
            self.answered[invitee] = perf_counter() - begun
        return answer.status_code

    async def pass_by(self, rows: int, chunks: range) -> None:
        """Let the day go by: so many rows at each commit, made in the server, and each hour a few by HTTP."""
        for chunk in chunks:
            await self.fill(rows)
            if chunk % 12 == 0:
                assert {await self.deliver(new_invitee()) for _ in range(PROBES)} == {200}
            self.clock.advance(timedelta(days=1) / CHUNKS)

    async def fill(self, rows: int) -> None:
        """Let in so many, made in the server, in one commit."""
        invitee = "https://api.calendly.com/scheduled_events/NUMBER/invitees/NUMBER"
        bare = len(invitee_body(invitee=invitee, text_reminder_number=""))
        body = invitee_body(invitee=invitee, text_reminder_number="5" * (BODY_BYTES - bare)).decode()
        limit, org = self.settings.http.max_unwritten_bytes, last_segment(self.hook.organization)
        places = (self.filled + 1, self.filled + rows)
        await self.setup.owner.execute(_FILL, self.clock.now(), limit, org, body, *places)
        self.filled += rows

    async def used(self) -> int:
        """Return the bytes that wait."""
        found: int = await self.setup.owner.fetchval("SELECT max(total) FROM slotwire.deliveries")
        return found

    async def overflow(self) -> list[str]:
        """Let in what the limit has room for, and send past it; return the invitees whose deliveries were refused."""
        room = self.settings.http.max_unwritten_bytes - await self.used()
        await self.fill(room // (BODY_BYTES + ROW_BYTES) - 10)
        while True:
            invitees = [new_invitee() for _ in range(50)]
            statuses = await asyncio.gather(*map(self.deliver, invitees))
            assert set(statuses) <= {200, 503}
            if refused := [each for each, status in zip(invitees, statuses, strict=True) if status == 503]:
                return refused

    async def doctor(self, now: datetime) -> str:
        """Return what `slotwire doctor` makes of what waits."""
        found = {item.check: item.state async for item in examine(self.settings, ManualClock(now))}
        return found["unwritten"]


async def live_through(setup: RelaySetup, database: Database, *, part: int, seconds: float) -> None:
    """Live through a day at a fraction of the rate and of the limit, pass the limit, and drain."""
    begin, rows = datetime.now(UTC), 86_400 * RATE // part // CHUNKS
    settings = settings_for(database, max_unwritten_bytes=LIMIT_BYTES // part)
    hook, clock = await make_hook(settings, database), ManualClock(begin)
    async with running_endpoint(settings, clock=clock) as endpoint:
        day = Day(setup, settings, hook, endpoint, clock)
        await day.pass_by(rows, range(1))
        late = begin + UNWRITTEN_WARNING
        assert (await day.doctor(late - timedelta(seconds=1)), await day.doctor(late)) == ("ok", "warning")
        await day.pass_by(rows, range(1, CHUNKS))
        times = list(day.answered.values())
        refused = await day.overflow()
        accepted = day.filled + len(day.answered)
        bytes_used = await day.used()
        assert LIMIT_BYTES // part * 0.99 < bytes_used <= LIMIT_BYTES // part
        assert await setup.owner.fetchval("SELECT count(*) FROM slotwire.deliveries") == accepted
        begun = perf_counter()
        async with running_relay(setup.settings, clock=clock):
            published = await drained(setup.settings, accepted, seconds)
            took = perf_counter() - begun
            assert {await day.deliver(each) for each in refused} == {200}
            published |= await drained(setup.settings, accepted + len(refused), seconds)
    first, last = (median(some) * 1000 for some in (times[:PROBES], times[-PROBES:]))
    sys.stderr.write(
        f"{accepted} deliveries, {bytes_used} bytes, {len(refused)} refused and sent again;"
        f" answers {first:.1f} ms in the first hour, {last:.1f} ms in the last; drained at {accepted / took:.0f}/s\n"
    )
    log = await setup.owner.fetch("SELECT position, event_id FROM slotwire.events")
    assert published == {(row["position"], str(row["event_id"])) for row in log}
    subjects = await setup.owner.fetchval("SELECT count(DISTINCT subject) FROM slotwire.events")
    assert subjects == len(log) == accepted + len(refused)
    assert await setup.owner.fetchval(_OUT_OF_ORDER) == 0


async def drained(settings: Settings, expected: int, seconds: float) -> set[tuple[int, str | None]]:
    """Read so many committed records, each partition in the order of the log; return their places and ids."""
    reached: dict[tuple[str, int], int] = {}
    found: set[tuple[int, str | None]] = set()
    async for record in each_committed(settings, expected, seconds=seconds):
        place, partition = sequence(record), (record.topic, record.partition)
        assert place > reached.get(partition, 0)
        reached[partition] = place
        found.add((place, header(record, "ce_id")))
    return found


async def test_without_a_relay_answers_go_on_to_the_limit_and_nothing_is_lost(
    setup: RelaySetup, database: Database
) -> None:
    """A day at a 4,000th of rate and limit: 2xx, an alarm in a minute, 503 past the limit; then all of it in order."""
    await live_through(setup, database, part=4_000, seconds=60)


@pytest.mark.soak
async def test_a_day_without_a_relay(setup: RelaySetup, database: Database) -> None:
    """The long form, at a fortieth: 216,000 deliveries and half a GiB.

    So it takes 2 GB of disk and minutes, not 60 GB and hours. Every bound that a backlog meets is passed all the same:
    the places that the writer looks ahead (200,000), what may be handed to the publisher from memory, a range of
    positions, the limit in bytes. Beyond them only the time that the drain takes grows with the size.
    """
    await live_through(setup, database, part=40, seconds=3_600)
