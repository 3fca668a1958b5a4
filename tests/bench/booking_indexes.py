"""What indexes over the times of bookings cost the writer: the numbers of docs/decisions/0012.

    python -m tests.bench.booking_indexes

200,000 bookings are there. In turns, with and without the indexes, deliveries are let in and a relay writes and
publishes them. It prints, for each set of indexes, what a delivery costs in WAL and CPU, and how large the indexes are.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import asyncpg
import uvloop

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import connect_to_commit
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.receive.accept import accept
from tests.bench.deliveries import Mint
from tests.bench.drain import CAUGHT_UP, CAUGHT_UP_SECONDS, ROWS_AT_ONCE, accepted_row
from tests.bench.stage import Stage, staged, started

KNOWN = 200_000
DELIVERIES = 4_000
ROUNDS = 5
SPREAD = timedelta(days=60)
"""Over which meetings begin, every half hour."""
OLD = {
    "bookings_start": "(start_time, invitee, org) WHERE state = 'active'",
    "bookings_end": "(end_time, invitee, org) WHERE state = 'active'",
}
NARROW = {
    "bookings_start_time": "(start_time) WHERE state = 'active'",
    "bookings_end_time": "(end_time) WHERE state = 'active'",
}
OF_ORGANIZATION = {"bookings_org_start": "(org, start_time) WHERE state = 'active'"}
CHANGED = {"bookings_changed": "USING brin (changed_at) WITH (pages_per_range = 16, autosummarize = on)"}
OF_FETCHES = {
    "bookings_org_start_canceled": "(org, start_time) WHERE state = 'canceled'",
    "bookings_marked": "(org, start_time) WHERE marks <> '[]'",
    "bookings_replaced": "(org, invitee) WHERE state = 'active' AND new_invitee IS NOT NULL",
}
OF_CHAIN = {"bookings_of_chain": "(org, left(chain_key, 2))"}
SETS = {
    "none": {},
    "changed alone": CHANGED,
    "organization's start alone": OF_ORGANIZATION,
    "as they were": {**OLD, **OF_ORGANIZATION, **CHANGED},
    "without those of fetches": {**NARROW, **OF_ORGANIZATION, **CHANGED},
    "without that of chains": {**NARROW, **OF_ORGANIZATION, **CHANGED, **OF_FETCHES},
    "as they are": {**NARROW, **OF_ORGANIZATION, **CHANGED, **OF_FETCHES, **OF_CHAIN},
}
ALL = {**OLD, **NARROW, **OF_ORGANIZATION, **CHANGED, **OF_FETCHES, **OF_CHAIN}
WAL = "SELECT pg_current_wal_lsn() - '0/0'"
KNOW = """
INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees, new_invitees, marks,
    clears, hosts, scheduled_event, start_time, end_time, booked_at, changed_at)
SELECT uri || '/invitees/' || gen_random_uuid(), $1, 1, 'active', gen_random_uuid()::text, uri, '{}', '{}', '[]', '[]',
    ARRAY['https://api.calendly.com/users/HOST'], uri, at, at + interval '30 minutes', $2, $2
FROM (
    SELECT 'https://api.calendly.com/scheduled_events/' || gen_random_uuid() AS uri,
        date_trunc('hour', $2::timestamptz) + interval '30 minutes' * floor(random() * $3) AS at
    FROM generate_series(1, $4::int)
) AS made
"""


@dataclass(frozen=True)
class Cost:
    """What a delivery cost on its way from the door to Kafka.

    Attributes:
        wal: bytes that Postgres wrote.
        postgres: microseconds of its CPU.
    """

    wal: float
    postgres: float


async def measure(stage: Stage, deliveries: int, rounds: int) -> None:
    """Measure and print."""
    halves = SPREAD // timedelta(minutes=30)
    await stage.connection.execute(KNOW, stage.org, SystemClock().now(), halves, KNOWN)
    await stage.connection.execute("VACUUM ANALYZE slotwire.bookings")
    found: dict[str, list[Cost]] = {name: [] for name in SETS}
    order = list(SETS)
    for number in range(rounds):
        for name in order if number % 2 == 0 else reversed(order):
            await _index(stage, SETS[name])
            cost = await _drained(stage, deliveries)
            found[name].append(cost)
            say(f"  round {number + 1}, {name}: {cost.wal:,.0f} bytes, {cost.postgres:.0f} µs")
    for name, costs in found.items():
        wal, cpu = median([each.wal for each in costs]), median([each.postgres for each in costs])
        say(f"{name:28} a delivery: {wal:7,.0f} bytes of WAL, {cpu:5.0f} µs of Postgres")
    await _index(stage, ALL)
    for name in ALL:
        size = await stage.ask(f"SELECT pg_relation_size('slotwire.{name}')")
        say(f"{name:28} {size / 1e6:6.1f} MB")


async def _index(stage: Stage, wanted: dict[str, str]) -> None:
    """Have these indexes over the times of bookings, and no other."""
    for name, definition in ALL.items():
        if name in wanted:
            await stage.connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON slotwire.bookings {definition}")
        else:
            await stage.connection.execute(f"DROP INDEX IF EXISTS slotwire.{name}")
    superuser = await asyncpg.connect(stage.stack.superuser_url)
    try:
        # One comes every few minutes; after it each page that is changed is written whole, once.
        await superuser.execute("CHECKPOINT")
    finally:
        await superuser.close()


async def _drained(stage: Stage, deliveries: int) -> Cost:
    await _fill(stage, deliveries)
    relay = stage.ours("relay", "relay")
    wal, used = await stage.ask(WAL), stage.cpu({})["postgres"]
    async with started(relay):
        await stage.until(CAUGHT_UP, 1, seconds=CAUGHT_UP_SECONDS)
        used = stage.cpu({})["postgres"] - used
    return Cost((await stage.ask(WAL) - wal) / deliveries, used / deliveries * 1e6)


async def _fill(stage: Stage, deliveries: int) -> None:
    """Accept bookings of meetings that begin at any half hour."""
    mint, database, drawn = Mint(stage.target), stage.settings.database, random.Random(1)  # noqa: S311 - no secret
    connection = await connect_to_commit(stage.database.runtime_url, database, application="bench")
    try:
        for first in range(0, deliveries, ROWS_AT_ONCE):
            now = datetime.now(UTC)
            rows = []
            for _ in range(min(ROWS_AT_ONCE, deliveries - first)):
                start = now.replace(minute=0, second=0, microsecond=0) + timedelta(minutes=30 * drawn.randrange(2880))
                body = mint.body()[1]
                for told, time_ in ((b"17:00", start), (b"17:30", start + timedelta(minutes=30))):
                    body = body.replace(b"2026-12-04T" + told, f"{time_:%Y-%m-%dT%H:%M}".encode())
                rows.append(accepted_row(stage.org, body, now))
            await accept(connection, 0, rows, now=now, seconds=database.statement_timeout_seconds)
    finally:
        await connection.close()


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(folder: Path, deliveries: int, rounds: int) -> None:
    """Make the servers, and measure."""
    async with staged(folder, lambda _: None) as stage:
        await measure(stage, deliveries, rounds)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.booking_indexes", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--deliveries", type=int, default=DELIVERIES, help="in each round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with ephemeral_folder() as folder:
        uvloop.run(run(folder, options.deliveries, options.rounds))


if __name__ == "__main__":
    main()
