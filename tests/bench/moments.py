"""What moments of bookings cost, and how late they fire: 100,000 that are pending, and some that come.

    python -m tests.bench.moments

The bookings of an agent with one moment are in Postgres; those that come are due at a rate over a minute, and then many
at one instant. Two processes of the agent would share nothing here, since one fires: so there is one, beside Postgres
and Kafka on this machine. It prints how late the first run of each began, and what one cost.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import uvloop

from slotwire.handlers import Agent, Context, Moment
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.log_output import configure_logging
from slotwire.ingest.foundation.settings import LogSettings
from slotwire.ingest.local.databases import create_database, migrate_template
from slotwire.ingest.local.stack import StackOptions, embedded_stack, ephemeral_folder
from tests.bench.load import percentile
from tests.support.agent_setup import AgentSetup, agent_setup, running_agents, until

PENDING = 100_000
RATE = 50
SECONDS = 40
BURST = 1_000
WAIT = timedelta(seconds=5)
"""From the booking of those that come to the first of them."""
BOOK = """
INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees, new_invitees, marks,
    clears, hosts, scheduled_event, start_time, end_time, booked_at, changed_at)
SELECT 'https://api.calendly.com/scheduled_events/' || $1 || n || '/invitees/I', 'ACME', 1, 'active', $1 || n, $1 || n,
    '{}', '{}', '[]', '[]', ARRAY['https://api.calendly.com/users/HOST'],
    'https://api.calendly.com/scheduled_events/' || $1 || n, at, at + interval '30 minutes', $5, $5
FROM generate_series(1, $2::int) AS n, LATERAL (SELECT $3::timestamptz + n * $4::interval AS at) AS times
"""


@dataclass
class Lateness:
    """How late moments began, in seconds, and what the process spent between the first and the last.

    Attributes:
        late: of each.
        cpu: when the first one began, and when the last one did, in seconds of CPU.
    """

    late: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def note(self, due: datetime) -> None:
        """Note one that begins."""
        self.late.append((SystemClock().now() - due).total_seconds())
        self.cpu = [self.cpu[0] if self.cpu else time.process_time(), time.process_time()]

    def told(self, name: str) -> str:
        """Say it in a line."""
        late = sorted(self.late)
        spent = (self.cpu[1] - self.cpu[0]) / len(late) * 1_000
        return (
            f"{name:20} {len(late):6} fired, late: median {percentile(late, 0.5):.2f} s,"
            f" p99 {percentile(late, 0.99):.2f} s, most {late[-1]:.2f} s; {spent:.2f} ms of CPU each"
        )


async def measure(setup: AgentSetup, owner: asyncpg.Connection[asyncpg.Record], pending: int) -> None:
    """Measure and print."""
    agent, found = Agent("bench"), Lateness()

    @agent.at(after_start=timedelta(0))
    async def begun(moment: Moment, ctx: Context) -> None:
        found.note(moment.due)
        async with ctx.transaction():
            pass

    async def book(name: str, count: int, first: datetime, step: timedelta) -> None:
        await owner.execute(BOOK, name, count, first, step, SystemClock().now())

    now = SystemClock().now()
    await owner.execute(
        "INSERT INTO slotwire.organizations (org, uri, shard, created_at) VALUES ('ACME', 'ACME', 0, $1)", now
    )
    await book("pending", pending, now + timedelta(hours=1), timedelta(seconds=30))
    await owner.execute("ANALYZE slotwire.bookings")
    async with running_agents(setup.runner(agent)):
        await until(lambda: _declared(owner))
        began, spent = time.perf_counter(), time.process_time()
        await asyncio.sleep(10)
        idle = (time.process_time() - spent) / (time.perf_counter() - began) * 1_000
        say(f"{pending} pending, none due: {idle:.1f} ms of CPU a second in the agent's process")
        await book("steady", RATE * SECONDS, SystemClock().now() + WAIT, timedelta(seconds=1 / RATE))
        await until(lambda: len(found.late) == RATE * SECONDS, seconds=SECONDS + 60)
        say(found.told(f"{RATE} a second"))
        found.late.clear()
        found.cpu.clear()
        await book("burst", BURST, SystemClock().now() + WAIT, timedelta(0))
        await until(lambda: len(found.late) == BURST, seconds=120)
        say(found.told(f"{BURST} at one instant"))
    left = await owner.fetchval("SELECT count(*) FROM slotwire.inbox")
    say(f"{left} marks for {RATE * SECONDS + BURST} moments")
    plan = await owner.fetch(
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) SELECT * FROM slotwire.bookings b WHERE b.state = 'active'"
        " AND (b.start_time, b.invitee, b.org) > ($1, '', '') AND b.start_time <= $2"
        " ORDER BY b.start_time, b.invitee, b.org LIMIT 500",
        *(SystemClock().now() - timedelta(seconds=1), SystemClock().now()),
    )
    say("a look: " + "; ".join(row[0].strip() for row in plan if "Index" in row[0] or "Execution" in row[0]))


async def _declared(owner: asyncpg.Connection[asyncpg.Record]) -> bool:
    return bool(await owner.fetchval("SELECT count(*) FROM slotwire.agent_schedules"))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(folder: Path, pending: int) -> None:
    """Make the servers, and measure."""
    async with embedded_stack(folder, report=lambda _: None, options=StackOptions(ephemeral=True)) as stack:
        await migrate_template(stack.postgres)
        database = await create_database(stack.postgres)
        prefix = f"b{secrets.token_hex(4)}."
        async with agent_setup(database, stack.kafka_bootstrap_servers, prefix, partitions=1) as setup:
            owner = await asyncpg.connect(database.owner_url)
            try:
                await measure(setup, owner, pending)
            finally:
                await owner.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.moments", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--pending", type=int, default=PENDING, help="bookings whose moments come later")
    options = parser.parse_args()
    configure_logging(LogSettings(level="error"), process="bench")
    with ephemeral_folder() as folder:
        uvloop.run(run(folder, options.pending))


if __name__ == "__main__":
    main()
