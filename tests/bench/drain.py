"""The drain of a backlog: the relay starts on deliveries that were accepted while none ran."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from slotwire.ingest.foundation.clock import ordered_id
from slotwire.ingest.foundation.postgres import connect_to_commit
from slotwire.ingest.receive.accept import AcceptRow, accept
from tests.bench.deliveries import Mint
from tests.bench.stage import BenchError, Stage, started
from tests.bench.sustained import LAST, PUBLISHED
from tests.bench.topic import count_records

ROWS_AT_ONCE = 200
CAUGHT_UP_SECONDS = 300.0
CAUGHT_UP = """
SELECT (h.position >= pg_sequence_last_value('slotwire.accepted_0') AND m.position >= h.last_event)::int
FROM slotwire.relay_mirror m, slotwire.heads h ORDER BY h.version DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Drain:
    """What became of a backlog.

    Attributes:
        deliveries: that waited when the relay was ready.
        rate: of them a second, until the last was in Kafka.
        cpu: microseconds a delivery: `relay`, `postgres`, `kafka`.
    """

    deliveries: int
    rate: float
    cpu: Mapping[str, float]


async def measure_drain(stage: Stage, *, deliveries: int, say: Callable[[str], None]) -> Drain:
    """Let deliveries in, then start a relay, and wait until Kafka has them all.

    Raises:
        BenchError: Kafka does not have each of them once.
    """
    before, published_since = await stage.count("slotwire.events"), PUBLISHED.format(await stage.ask(LAST))
    await fill(stage, deliveries)
    relay = stage.ours("relay", "relay")
    async with started(relay):
        began, there = time.monotonic(), await stage.ask(published_since)
        used = stage.cpu({"relay": relay})
        await stage.until(CAUGHT_UP, 1, seconds=CAUGHT_UP_SECONDS)
        elapsed, spent = time.monotonic() - began, stage.cpu({"relay": relay})
    events = await stage.count("slotwire.events")
    if events - before != deliveries:
        raise BenchError(f"{deliveries} deliveries became {events - before} events")
    if (found := await count_records(stage.settings.kafka, events)) != events:
        raise BenchError(f"the log has {events} events, Kafka {found}")
    drained = deliveries - there
    say(f"drain of {drained:,}: {drained / elapsed:,.0f}/s")
    return Drain(drained, drained / elapsed, {name: (spent[name] - used[name]) / drained * 1e6 for name in spent})


async def fill(stage: Stage, deliveries: int) -> None:
    """Accept deliveries as `serve` does, without HTTP."""
    mint, database = Mint(stage.target), stage.settings.database
    connection = await connect_to_commit(stage.database.runtime_url, database, application="bench")
    try:
        for first in range(0, deliveries, ROWS_AT_ONCE):
            now = datetime.now(UTC)
            count = min(ROWS_AT_ONCE, deliveries - first)
            rows = [accepted_row(stage.org, mint.body()[1], now) for _ in range(count)]
            await accept(connection, 0, rows, now=now, seconds=database.statement_timeout_seconds)
    finally:
        await connection.close()


def accepted_row(org: str, body: bytes, now: datetime) -> AcceptRow:
    """Make the row of a webhook that came just now."""
    return AcceptRow(ordered_id(now), org, None, "webhook", now, now, False, "", None, None, body)
