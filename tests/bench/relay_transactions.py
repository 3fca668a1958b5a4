"""What publishing in transactions costs: the numbers of docs/decisions/0001.

    python -m tests.bench.relay_transactions

Runs on a stack of its own with default durability, in about a minute, and prints one table. Everything is one
process on one event loop, so the readers' own work is in the figures.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer import sender

from slotwire.ingest.foundation.kafka import TRANSACTION_PAUSE_SECONDS, full_name
from slotwire.ingest.local.databases import create_database, migrate_template
from slotwire.ingest.local.stack import Stack, embedded_stack, ephemeral_folder
from slotwire.ingest.receive.accept import accept
from slotwire.schemas.topics import INVITEE
from tests.bench.deliveries import Mint, Target
from tests.bench.drain import accepted_row
from tests.support.relay_setup import LoggedEvent, RelaySetup, leading_relay, relay_setup, running_relay

BATCHES = (1, 10, 100, 500)
ROUNDS = {1: 100, 10: 60, 100: 40, 500: 40}
DATA = b'{"padding": "' + b"x" * 1_880 + b'"}'
"""As long as a delivery's body."""
LOGGED = 20_000
ORG = "BENCH"
SINGLES = 300
GAP_SECONDS = 0.05
THEIR_PAUSE = 0.02
OUR_PAUSE = TRANSACTION_PAUSE_SECONDS


@dataclass(frozen=True)
class Spread:
    """Milliseconds: the middle, and the ninety-ninth of a hundred."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Sort and pick."""
        ordered = sorted(seconds)
        return cls(ordered[len(ordered) // 2] * 1000, ordered[int(len(ordered) * 0.99)] * 1000)

    def __str__(self) -> str:
        return f"p50 {self.p50:5.1f} ms   p99 {self.p99:5.1f} ms"


async def send_batches(setup: RelaySetup, batch: int, *, transactional: bool) -> Spread:
    """Time batches sent back to back, each awaited; a transaction carries the batch alone."""
    topic = full_name(setup.settings.kafka, INVITEE)
    name = f"bench-{secrets.token_hex(4)}" if transactional else None
    producer = AIOKafkaProducer(
        bootstrap_servers=setup.settings.kafka.bootstrap_servers,
        enable_idempotence=True,
        transactional_id=name,
        max_batch_size=262_144,
    )
    await producer.start()
    times = []
    for turn in range(ROUNDS[batch] + 5):
        start = time.perf_counter()
        if transactional:
            await producer.begin_transaction()
        sent = [await producer.send(topic, DATA, f"{turn}-{item}".encode()) for item in range(batch)]
        await asyncio.gather(*sent)
        if transactional:
            await producer.commit_transaction()
        times.append(time.perf_counter() - start)
    await producer.stop()
    return Spread.of(times[5:])


async def drain_log(setup: RelaySetup) -> tuple[float, Spread]:
    """Publish a log that is full already, as after an outage: events a second, and one step's time."""
    for thousand in range(LOGGED // 1_000):
        await setup.append(*[LoggedEvent(key=f"{thousand}-{item}", data=DATA) for item in range(1_000)])
    steps = []
    async with leading_relay(setup.settings) as (relay, _):
        await relay.step()
        start_all = time.perf_counter()
        passed = 0
        while True:
            start = time.perf_counter()
            now = await relay.step()
            if not now:
                break
            passed += now
            steps.append(time.perf_counter() - start)
        return passed / (time.perf_counter() - start_all), Spread.of(steps)


async def publish_singles(setup: RelaySetup) -> Spread:
    """Time from the notification that a delivery is accepted until a reader of committed records has its event."""
    topic = full_name(setup.settings.kafka, INVITEE)
    partitions = [TopicPartition(topic, number) for number in range(setup.settings.kafka.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=setup.settings.kafka.bootstrap_servers, isolation_level="read_committed"
    )
    await consumer.start()
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    times = []
    mint = Mint(Target(0, "", ""))
    await setup.owner.execute(
        "INSERT INTO slotwire.organizations (org, uri, shard, created_at) VALUES ($1, $2, 0, $3)",
        ORG,
        f"https://api.calendly.com/organizations/{ORG}",
        datetime.now(UTC),
    )
    async with running_relay(setup.settings):
        for _ in range(SINGLES + 20):
            turn = datetime.now(UTC)
            await accept(setup.writer, 0, [accepted_row(ORG, mint.body()[1], turn)], now=turn, seconds=5)
            start = time.perf_counter()
            await setup.writer.execute("SELECT pg_notify('slotwire_log', '0')")
            await consumer.getone()
            times.append(time.perf_counter() - start)
            await asyncio.sleep(GAP_SECONDS)
    await consumer.stop()
    return Spread.of(times[20:])


async def measure(stack: Stack) -> None:
    """Measure and print."""
    await migrate_template(stack.postgres)
    database = await create_database(stack.postgres)
    out = sys.stdout.write
    async with relay_setup(database, stack.kafka_bootstrap_servers, f"b{secrets.token_hex(3)}.") as setup:
        await send_batches(setup, 1, transactional=True)  # the broker's code is compiled, its topics are made
        for kind, pause in (("idempotent", None), ("transactional", THEIR_PAUSE), ("transactional", OUR_PAUSE)):
            sender.BACKOFF_OVERRIDE = pause or OUR_PAUSE
            for batch in BATCHES:
                spread = await send_batches(setup, batch, transactional=pause is not None)
                name = f"{kind}, batch {batch}" + (f", pause {pause * 1000:.0f} ms" if pause else "")
                out(f"{name:42}{spread}   {batch / spread.p50 * 1000:7,.0f}/s\n")
        singles = await publish_singles(setup)
        out(f"{'relay, idle: accepted to committed':42}{singles}\n")
        rate, step = await drain_log(setup)
        out(f"{'relay, full log: one step of 500':42}{step}   {rate:7,.0f}/s\n")


async def run(folder: Path) -> None:
    """Start a stack, measure, stop it."""
    async with embedded_stack(folder, report=lambda _: None) as stack:
        await measure(stack)


def main() -> None:
    """Measure in a temporary folder."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with ephemeral_folder() as folder:
        uvloop.run(run(folder))


if __name__ == "__main__":
    main()
