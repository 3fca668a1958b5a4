"""What the runtime for agents costs: `python -m tests.bench.handlers`. Contenders take turns over one topic.

CPU of this process, and rate, a record:

    bare         aiokafka's `getmany`, and our `decode`
    no-op        an agent whose handler does nothing, with its inbox in memory
    inbox        the same with the inbox in Postgres
    asyncpg      BEGIN, two INSERTs, COMMIT, on as many connections as the agent has
    block        as many runs of `ctx.transaction()` with one row, and nothing around them
    transaction  an agent whose handler writes one row in `ctx.transaction()`

Then the way of 10,000 keys' events from the producer to their handler, without and with a key whose handler is slow;
then the memory of an agent in a process of its own, with little lag and with `--lag` records of it. Each ratio is of
two rounds that followed each other.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from uuid import UUID

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from slotwire.handlers import Agent, Context
from slotwire.handlers.consume.membership import Membership
from slotwire.handlers.dispatch.runs import Work
from slotwire.handlers.settle.trial_inbox import MemoryInbox
from slotwire.handlers.testing import record_of
from slotwire.ingest.foundation.lifecycle import collect_rarely
from slotwire.ingest.local.databases import create_database, migrate_template
from slotwire.ingest.local.stack import StackOptions, embedded_stack, ephemeral_folder
from slotwire.schemas.codec import decode
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BookingState, EventData, InviteeCreated
from tests.bench.idle import rss_mib
from tests.bench.load import percentile
from tests.support.agent_setup import NOTE_EFFECT, AgentSetup, agent_setup, invitee_created, running_agents, until

KEYS = 10_000
BATCH = 500
SLOW_SECONDS, SLOW_EVERY = 0.5, 50
"""How long the slow key's handler takes, and each how many events one is of that key."""
CONTENDERS = ("bare", "no-op", "inbox", "asyncpg", "block", "transaction")
RATIOS = (
    ("no-op", "bare", 2.0),
    ("inbox", "bare", None),
    ("block", "asyncpg", 1.5),
    ("transaction", "asyncpg", None),
)
INTERVAL = Membership.interval
"""As members have it outside of tests."""


@dataclass
class Spent:
    """What one round cost, a record: microseconds of CPU, and records a second."""

    cpu: float
    rate: float


@dataclass
class Meter:
    """Measures from the first record that is handled to the last of `expected`."""

    expected: int
    count: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _began: tuple[float, float] = (0.0, 0.0)
    _ended: tuple[float, float] = (0.0, 0.0)

    def tick(self) -> None:
        """Note one record."""
        if self.count == 0:
            self._began = time.process_time(), time.perf_counter()
        self.count += 1
        if self.count == self.expected:
            self._ended = time.process_time(), time.perf_counter()
            self.done.set()

    def spent(self) -> Spent:
        """Return what a record cost."""
        cpu, seconds = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        return Spent(cpu / self.expected * 1e6, self.expected / seconds)


async def bare(setup: AgentSetup, meter: Meter) -> None:
    """Read and decode everything, and nothing else."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=setup.settings.kafka.bootstrap_servers,
        isolation_level="read_committed",
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        places = [TopicPartition(setup.topic, number) for number in range(setup.settings.kafka.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while not meter.done.is_set():
            for records in (await consumer.getmany(timeout_ms=200, max_records=BATCH)).values():
                for record in records:
                    decode(record.headers, record.value)
                    meter.tick()
    finally:
        await consumer.stop()


async def agent_turn(setup: AgentSetup, meter: Meter, *, in_memory: bool = False, writes: bool = False) -> None:
    """Have a new agent handle everything."""
    agent = Agent(f"bench-{secrets.token_hex(4)}")

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], ctx: Context) -> None:
        if writes:
            async with ctx.transaction() as connection:
                await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
        meter.tick()

    runner = setup.runner(agent, interval=INTERVAL)
    if in_memory:
        runner._handling._inbox = MemoryInbox()
    async with running_agents(runner):
        await meter.done.wait()


async def asyncpg_turn(setup: AgentSetup, meter: Meter) -> None:
    """Write as many rows twice, a transaction each, and nothing else."""
    agent = f"bench-{secrets.token_hex(4)}"
    events = iter([invitee_created(f"k{n}", 1) for n in range(meter.expected)])
    mark = "INSERT INTO marks (agent, event_id, done_at) VALUES ($1, $2, now())"

    async def work() -> None:
        connection = await asyncpg.connect(setup.settings.database_url.get_secret_value())
        try:
            for event in events:
                async with connection.transaction():
                    await connection.execute(mark, agent, event.id)
                    await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
                meter.tick()
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(setup.settings.database.pool_size):
            group.create_task(work())


async def block_turn(setup: AgentSetup, meter: Meter) -> None:
    """Write as many rows, each in a `ctx.transaction()`, as many at once as the pool has connections."""
    handling = setup.runner(Agent(f"bench-{secrets.token_hex(4)}"))._handling
    record, stopping = record_of(invitee_created("k", 1)), asyncio.Event()
    events = iter([invitee_created(f"k{n}", 1) for n in range(meter.expected)])

    async def work() -> None:
        for event in events:
            each = Work(record, event)
            handling._runs.begin(each, stopping)
            async with handling._context(each).transaction() as connection:
                await connection.execute(NOTE_EFFECT, event.id, event.key, event.sequence)
            meter.tick()

    async with asyncio.TaskGroup() as group:
        for _ in range(setup.settings.database.pool_size):
            group.create_task(work())


async def take_turn(setup: AgentSetup, name: str, records: int) -> Spent:
    """Run one contender once."""
    meter = Meter(records)
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "bare": lambda: bare(setup, meter),
        "no-op": lambda: agent_turn(setup, meter, in_memory=True),
        "inbox": lambda: agent_turn(setup, meter),
        "asyncpg": lambda: asyncpg_turn(setup, meter),
        "block": lambda: block_turn(setup, meter),
        "transaction": lambda: agent_turn(setup, meter, writes=True),
    }
    collect_rarely()  # as a process of ours does
    await ways[name]()
    return meter.spent()


def booked(key: str, sequence: int) -> Event[EventData]:
    """Make a booking with the data that one has."""
    uri = f"https://api.calendly.com/scheduled_events/{secrets.token_hex(8)}/invitees/{secrets.token_hex(8)}"
    data = InviteeCreated.model_validate(
        {
            "uri": uri,
            "name": "Ada Example",
            "email": "ada@example.com",
            "timezone": "Europe/Vienna",
            "status": "active",
            "created_at": "2026-11-23T09:00:00Z",
            "updated_at": "2026-11-23T09:00:00Z",
            "questions_and_answers": [{"question": "What is it about?", "answer": "A demonstration", "position": 0}],
            "tracking": {"utm_source": "newsletter"},
            "cancel_url": f"https://calendly.com/cancellations/{secrets.token_hex(8)}",
            "reschedule_url": f"https://calendly.com/reschedulings/{secrets.token_hex(8)}",
            "booking": BookingState(state="active", revision=1, chain_root=uri),
        }
    )
    made = replace(invitee_created(key, sequence), data=data, subject=uri)
    return replace(made, traceparent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01", origin="backfill")


async def fill(setup: AgentSetup, records: int, *, small: bool = False) -> None:
    """Write bookings of many keys into the topic."""
    producer = AIOKafkaProducer(
        bootstrap_servers=setup.settings.kafka.bootstrap_servers,
        max_batch_size=262_144,
        linger_ms=5,
        transactional_id=secrets.token_hex(8),
    )
    await producer.start()
    try:
        for first in range(0, records, 5_000):
            async with producer.transaction():
                for number in range(first, min(first + 5_000, records)):
                    make = invitee_created if small else booked
                    record = record_of(make(f"k{number % KEYS}", number + 1))
                    await producer.send(setup.topic, record.value, record.key, headers=list(record.headers))
    finally:
        await producer.stop()


async def way(setup: AgentSetup, *, seconds: float, rate: int, slow: bool) -> list[float]:
    """Return the seconds that each event of a usual key took from the producer to its handler."""
    agent = Agent(f"bench-{secrets.token_hex(4)}", start="latest")
    sent: dict[UUID, float] = {}
    took: list[float] = []
    ready = asyncio.Event()

    @agent.on(InviteeCreated)
    async def handle(event: Event[InviteeCreated], _: Context) -> None:
        if event.key == "first":
            ready.set()
        elif event.key == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        else:
            took.append(time.perf_counter() - sent[event.id])

    producer = AIOKafkaProducer(bootstrap_servers=setup.settings.kafka.bootstrap_servers)
    await producer.start()

    async def send(event: Event[EventData]) -> None:
        record = record_of(event)
        await producer.send(setup.topic, record.value, record.key, headers=list(record.headers))

    try:
        async with running_agents(setup.runner(agent, interval=INTERVAL)):
            while not ready.is_set():
                await send(booked("first", int(time.monotonic() * 1_000)))
                await asyncio.sleep(0.2)
            count = int(rate * seconds)
            began = time.perf_counter()
            for number in range(count):
                event = booked(f"k{number % KEYS}", number + 1)
                if slow and number % SLOW_EVERY == 0:
                    await send(booked("slow", number + 1))
                sent[event.id] = time.perf_counter()
                await send(event)
                if (ahead := began + number / rate - time.perf_counter()) > 0:
                    await asyncio.sleep(ahead)
            await until(lambda: len(took) == count, seconds=60)
    finally:
        await producer.stop()
    return took


NO_OP = """
from slotwire.handlers import Agent
from slotwire.schemas.events import InviteeCreated
agent = Agent("bench-memory")

@agent.on(InviteeCreated)
async def handle(event, ctx):
    pass
"""


@asynccontextmanager
async def child(setup: AgentSetup, folder: Path) -> AsyncIterator[int]:
    """Run an agent that does nothing in a process of its own; yields its pid."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "slotwire.ingest.cli", "agents", "run", "bench_memory:agent"),
        cwd=folder,
        env=setup.environment(),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


async def memory(setup: AgentSetup, folder: Path, *, lag: int) -> tuple[float, float]:
    """Return the MiB of an agent with nothing to do, and the most that it had while it was behind by so much."""
    async with child(setup, folder) as pid:
        await asyncio.sleep(5)
        idle = rss_mib(pid)
    await fill(setup, lag, small=True)
    most = 0.0
    async with child(setup, folder) as pid:
        for _ in range(60):
            await asyncio.sleep(0.5)
            most = max(most, rss_mib(pid))
    return idle, most


def told(spent: dict[str, list[Spent]]) -> list[str]:
    """Say what each contender cost, and how they compare."""
    lines = []
    for name, rounds in spent.items():
        cpu, rate = median(each.cpu for each in rounds), median(each.rate for each in rounds)
        lines.append(f"{name:12} {cpu:7.1f} us of CPU a record ({1e6 / cpu:6.0f} a core), {rate:6.0f}/s")
    for name, beside, most in RATIOS:
        ratios = [one.cpu / other.cpu for one, other in zip(spent[name], spent[beside], strict=True)]
        rates = [one.rate / other.rate for one, other in zip(spent[name], spent[beside], strict=True)]
        aim = "" if most is None else f" (at most {most})"
        lines.append(f"{name} / {beside}: {median(ratios):.2f} of the CPU{aim}, {median(rates):.2f} of the rate")
    return lines


async def measure(folder: Path, options: argparse.Namespace) -> None:
    """Measure what was asked for, and say it."""
    async with embedded_stack(folder, report=lambda _: None, options=StackOptions(ephemeral=True)) as stack:
        await migrate_template(stack.postgres)
        bootstrap = stack.kafka_bootstrap_servers

        @asynccontextmanager
        async def made() -> AsyncIterator[AgentSetup]:
            database = await create_database(stack.postgres)
            async with agent_setup(database, bootstrap, f"b{secrets.token_hex(4)}.") as setup:
                owner = await asyncpg.connect(database.owner_url)
                await owner.execute(
                    "CREATE TABLE marks (LIKE slotwire.inbox INCLUDING ALL); GRANT ALL ON marks TO PUBLIC"
                )
                await owner.close()
                yield setup

        if "cost" in options.only:
            async with made() as setup:
                await fill(setup, options.records)
                spent: dict[str, list[Spent]] = {name: [] for name in CONTENDERS}
                for _ in range(options.rounds):
                    for name in CONTENDERS:
                        spent[name].append(await take_turn(setup, name, options.records))
                _say(told(spent))
        if "way" in options.only:
            async with made() as setup:
                p99: dict[bool, list[float]] = {False: [], True: []}
                for _ in range(options.rounds):
                    for slow in (False, True):
                        took = await way(setup, seconds=options.seconds, rate=options.rate, slow=slow)
                        p99[slow].append(percentile(took, 0.99) * 1_000)
                ratios = [with_it / quiet for quiet, with_it in zip(p99[False], p99[True], strict=True)]
                _say(
                    [
                        f"p99 of {KEYS} keys: {median(p99[False]):.1f} ms; with a slow key {median(p99[True]):.1f} ms",
                        f"  {median(ratios):.2f} times (at most 1.2), from {min(ratios):.2f} to {max(ratios):.2f}",
                    ]
                )
        if "memory" in options.only:
            async with made() as setup:
                (folder.parent / "bench_memory.py").write_text(NO_OP)
                idle, most = await memory(setup, folder.parent, lag=options.lag)
                _say([f"memory: {idle:.0f} MiB with nothing to do, {most:.0f} MiB at most with {options.lag} of lag"])


def _say(lines: Sequence[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.handlers")
    parser.add_argument("--only", choices=("cost", "way", "memory"), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=400)
    parser.add_argument("--lag", type=int, default=1_000_000)
    asked = parser.parse_args()
    asked.only = asked.only or ["cost", "way", "memory"]
    with ephemeral_folder() as place:
        uvloop.run(measure(place, asked))
