"""What moments of bookings cost, and how late they fire: 100,000 that are pending, and some that come.

    python -m tests.bench.moments [--seconds 0]

The bookings of an agent with one moment are in Postgres; those that come are due at a rate over a minute, and then many
at one instant. Two processes of the agent would share nothing here, since one fires: so there is one, beside Postgres
and Kafka on this machine. It prints how late the first run of each began, and what one cost. Then `control` and a relay
tell as many meetings that start at one instant, and it prints how late a reader of the topic has their events.

Where others use the machine, `chrt -r 5` before it measures as on a quiet one.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from slotwire.handlers import Agent, Context, Moment
from slotwire.ingest.control.meeting_events import MOMENTS
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.kafka import full_name
from slotwire.ingest.foundation.log_output import configure_logging
from slotwire.ingest.foundation.settings import LogSettings
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.supervisor import Process
from slotwire.schemas.topics import SCHEDULED_EVENT
from tests.bench.load import percentile
from tests.bench.stage import Stage, cpu_seconds, staged, started
from tests.support.agent_setup import AgentSetup, agent_setup, running_agents, until

PENDING = 100_000
RATE = 50
SECONDS = 40
BURST = 1_000
BURSTS = 3
WAIT = timedelta(seconds=5)
"""From the booking of those that come to the first of them."""
BOOK = """
INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees, new_invitees, marks,
    clears, hosts, scheduled_event, start_time, end_time, booked_at, changed_at)
SELECT 'https://api.calendly.com/scheduled_events/' || $1 || n || '/invitees/I', $6, 1, 'active', $1 || n, $1 || n,
    '{}', '{}', '[]', '[]', ARRAY['https://api.calendly.com/users/HOST'],
    'https://api.calendly.com/scheduled_events/' || $1 || n, at, at + interval '30 minutes', $5, $5
FROM generate_series(1, $2::int) AS n, LATERAL (SELECT $3::timestamptz + n * $4::interval AS at) AS times
"""


@dataclass
class Lateness:
    """How late moments began, and when their transactions were committed, in seconds."""

    late: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)

    def told(self, name: str, cpu: Mapping[str, float]) -> str:
        """Say it in a line, with the CPU that was spent."""
        late, count = sorted(self.late), len(self.late)
        said = (
            f"{name:20} {count:6} fired, late: median {percentile(late, 0.5):.2f} s,"
            f" p99 {percentile(late, 0.99):.2f} s, most {late[-1]:.2f} s"
        )
        said += f"; the last committed after {max(self.done):.2f} s" if self.done else ""
        each = " + ".join(f"{seconds / count * 1_000:.2f} ms of {whose}" for whose, seconds in cpu.items())
        self.late.clear()
        self.done.clear()
        return f"{said}; CPU each: {each}"


@dataclass
class Bench:
    """What it measures with.

    Attributes:
        stage: the servers, and Slotwire's processes.
        setup: of the agent.
    """

    stage: Stage
    setup: AgentSetup

    async def book(self, name: str, count: int, first: datetime, step: timedelta = timedelta(0)) -> None:
        """Have bookings there, whose meetings start so long after one another."""
        now = SystemClock().now()
        await self.stage.connection.execute(BOOK, name, count, first, step, now, self.stage.org)

    def spent(self, since: Mapping[str, float] | None = None, **processes: Process) -> dict[str, float]:
        """Return the CPU seconds used, of this process, Postgres, and others."""
        used = {"the agent": time.process_time()} if not processes else {}
        used |= {name: cpu_seconds(each.pid) for name, each in processes.items()}
        used["Postgres"] = cpu_seconds(self.stage.stack.postgres.child.pid)
        return {name: seconds - (since or {}).get(name, 0.0) for name, seconds in used.items()}

    async def agents(self, pending: int, seconds: int) -> None:
        """Measure an agent and print."""
        agent, found = Agent("bench"), Lateness()

        @agent.at(after_start=timedelta(0))
        async def begun(moment: Moment, ctx: Context) -> None:
            found.late.append(_since(moment.due))
            async with ctx.transaction():
                pass
            found.done.append(_since(moment.due))

        await self.book("pending", pending, SystemClock().now() + timedelta(hours=1), timedelta(seconds=30))
        await self.stage.connection.execute("ANALYZE slotwire.bookings")
        async with running_agents(self.setup.runner(agent)):
            await until(lambda: _declared(self.stage))
            began, used = time.perf_counter(), self.spent()
            await asyncio.sleep(10)
            idle = {name: spent / (time.perf_counter() - began) * 1_000 for name, spent in self.spent(used).items()}
            told = ", ".join(f"{spent:.1f} ms of {name}" for name, spent in idle.items())
            say(f"{pending} pending, none due: CPU a second: {told}")
            loads = [(f"{RATE} a second", RATE * seconds, timedelta(seconds=1 / RATE))] if seconds else []
            for name, count, step in (*loads, *[(f"{BURST} at one instant", BURST, timedelta(0))] * BURSTS):
                await self.book(secrets.token_hex(4), count, SystemClock().now() + WAIT, step)
                used = self.spent()
                await until(partial(_are, found.done, count), seconds=seconds + 120)
                say(found.told(name, self.spent(used)))

    async def topic(self) -> None:
        """Measure what is told of meetings on the topic, and print."""
        found, topic = Lateness(), full_name(self.stage.settings.kafka, SCHEDULED_EVENT)
        telling = replace(self.stage, environment={**self.stage.environment, "SLOTWIRE_MEETINGS__EVENTS": "true"})
        control, relay = telling.ours("control", "control"), telling.ours("relay", "relay")
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.stage.settings.kafka.bootstrap_servers, isolation_level="read_committed"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, number) for number in range(self.stage.settings.kafka.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            async with started(control, relay):
                await self.stage.until("SELECT count(*) FROM slotwire.meetings_told", len(MOMENTS), seconds=30)
                for _ in range(BURSTS):
                    start = SystemClock().now() + WAIT
                    await self.book(secrets.token_hex(4), BURST, start)
                    used = self.spent(control=control, relay=relay)
                    async with asyncio.timeout(60):
                        while len(found.late) < BURST:
                            read = await consumer.getmany(timeout_ms=50)
                            found.late += [_since(start) for records in read.values() for _ in records]
                    say(found.told(f"{BURST} on the topic", self.spent(used, control=control, relay=relay)))
        finally:
            await consumer.stop()


def _are(found: list[float], count: int) -> bool:
    return len(found) == count


def _since(time_: datetime) -> float:
    return (SystemClock().now() - time_).total_seconds()


async def measure(bench: Bench, pending: int, seconds: int) -> None:
    """Measure and print."""
    await bench.agents(pending, seconds)
    await bench.topic()
    owner = bench.stage.connection
    plan = await owner.fetch(
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) SELECT * FROM slotwire.bookings b WHERE b.state = 'active'"
        " AND (b.start_time, b.invitee, b.org) > ($1, '', '') AND b.start_time <= $2"
        " ORDER BY b.start_time, b.invitee, b.org LIMIT 500",
        *(SystemClock().now() - timedelta(seconds=1), SystemClock().now()),
    )
    say("a look: " + "; ".join(row[0].strip() for row in plan if "Index" in row[0] or "Execution" in row[0]))


async def _declared(stage: Stage) -> bool:
    return bool(await stage.ask("SELECT count(*) FROM slotwire.agent_schedules"))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(folder: Path, pending: int, seconds: int) -> None:
    """Make the servers, and measure."""
    async with staged(folder, lambda _: None) as stage:
        prefix = f"b{secrets.token_hex(4)}."
        async with agent_setup(stage.database, stage.stack.kafka_bootstrap_servers, prefix, partitions=1) as setup:
            await measure(Bench(stage, setup), pending, seconds)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.moments", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--pending", type=int, default=PENDING, help="bookings whose moments come later")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for how long some come at a rate")
    options = parser.parse_args()
    configure_logging(LogSettings(level="error"), process="bench")
    with ephemeral_folder() as folder:
        uvloop.run(run(folder, options.pending, options.seconds))


if __name__ == "__main__":
    main()
