"""A rollout in a test's hand: processes of two versions beside each other, behind a balancer, under load."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg

from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from tests.support.children import Process, environment, free_port, process
from tests.support.end_to_end import LEDGER, committed_records
from tests.support.keepalive_load import LoadCounts, read_answer, request
from tests.support.public_endpoint import Hook, invitee_body, make_hook, new_invitee, settings_for
from tests.support.versions import Version, empty_database

CONNECTIONS = 2
DELIVERIES = 10
"""How many come over one connection."""
PAUSE_SECONDS = 0.02
"""Between two of them, so that the processes have time for other work."""
TOPIC = "calendly.invitee"
SETTLED_SECONDS = 120


@dataclass(frozen=True)
class Rollout:
    """An installation whose version changes.

    Attributes:
        database: migrated by the version before.
        env: the settings that all processes share.
        hook: where deliveries come in.
        counts: what the load has seen.
        ports: of the endpoints that the balancer knows; the last one gets the next connection.
    """

    stack: Stack
    database: Database
    topic_prefix: str
    env: Mapping[str, str]
    hook: Hook
    counts: LoadCounts = field(default_factory=LoadCounts)
    ports: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, version: Version, *names: str) -> AsyncIterator[Processes]:
        """Run processes of a version while the block runs. What it still runs at the end is stopped as by `stop`."""
        processes = Processes(self, version)
        try:
            for name in names:
                await processes.start(name)
            yield processes
        finally:
            for name in list(processes.running):
                await processes.stop(name)

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Send deliveries through the balancer while the block runs."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._send(stop))
            try:
                yield
            finally:
                stop.set()

    async def _send(self, stop: asyncio.Event) -> None:
        """Send deliveries, a few over each connection: the proxy chooses an endpoint for each."""
        while not stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[-1])
            for _ in range(DELIVERIES):
                if reader.at_eof():  # closed while nothing was asked: the proxy takes another one
                    break
                invitee = new_invitee()
                writer.write(request(self.hook, invitee_body(invitee=invitee)))
                status, closing = await read_answer(reader)
                self.counts.answered[status] = self.counts.answered.get(status, 0) + 1
                if status == 200:
                    self.counts.acknowledged.add(invitee)
                self.counts.changed()
                if closing or stop.is_set():
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)
            writer.close()

    async def check(self) -> None:
        """Compare what was acknowledged with the log, with Kafka, and with what the agent has done."""
        assert set(self.counts.answered) == {200}
        owner = await asyncpg.connect(self.database.owner_url)
        try:
            async with asyncio.timeout(SETTLED_SECONDS):
                while (  # noqa: ASYNC110 - other processes give no signal
                    await owner.fetchval("SELECT count(*) FROM public.ledger") < len(self.counts.acknowledged)
                ):
                    await asyncio.sleep(0.05)
            log = await owner.fetch("SELECT event_id, subject, position FROM slotwire.events ORDER BY position")
            ledger = await owner.fetch("SELECT event_id, key, sequence FROM public.ledger ORDER BY number")
        finally:
            await owner.close()
        assert Counter(row["subject"] for row in log) == Counter(self.counts.acknowledged)
        assert Counter(row["event_id"] for row in ledger) == Counter(row["event_id"] for row in log)
        by_key: dict[str, list[int]] = defaultdict(list)
        for row in ledger:
            by_key[row["key"]].append(row["sequence"])
        assert all(sequence == sorted(sequence) for sequence in by_key.values())
        bootstrap, topic = self.stack.kafka_bootstrap_servers, f"{self.topic_prefix}{TOPIC}"
        records = await asyncio.to_thread(committed_records, bootstrap, topic, len(log))
        assert Counter(record.headers["ce_id"] for record in records) == Counter(str(row["event_id"]) for row in log)


class Processes:
    """The processes of one version.

    Attributes:
        version: which.
        running: by name, each with what ends it.
    """

    def __init__(self, rollout: Rollout, version: Version) -> None:
        self._rollout, self.version = rollout, version
        self._port = free_port()
        self.running: dict[str, tuple[Process, AsyncExitStack]] = {}

    async def start(self, *names: str) -> None:
        """Start processes; they may not be ready yet."""
        for name in names:
            env = {**self._rollout.env, "SLOTWIRE_HTTP__PORT": str(self._port)}
            words = ("agents", "run", "tests.support.ledger_agent:agent") if name == "agents" else (name,)
            ending = AsyncExitStack()
            running = process(*words, env=env, version=self.version.path)
            self.running[name] = await ending.enter_async_context(running), ending

    async def until_ready(self) -> None:
        """Wait until all are ready."""
        await asyncio.gather(*(each.until_ready() for each, _ in self.running.values()))

    def join(self) -> None:
        """Let the balancer give the next connections to this version's endpoint."""
        self._rollout.ports.append(self._port)

    def leave(self) -> None:
        """Take this version's endpoint out of the balancer."""
        self._rollout.ports.remove(self._port)

    async def until_problem(self, words: str) -> None:
        """Wait until none is ready, for a reason with these words in it."""
        await asyncio.gather(*(each.until_problem(words) for each, _ in self.running.values()))

    async def are_ready(self) -> bool:
        """Whether all are ready now."""
        return not any([await each.problems() != {} for each, _ in self.running.values()])

    async def stop(self, *names: str) -> None:
        """Stop processes as an orchestrator does: first out of the balancer, then SIGTERM, then wait."""
        if "serve" in names and self._port in self._rollout.ports:
            self.leave()
        await asyncio.gather(*(self.running.pop(name)[1].aclose() for name in names))


@asynccontextmanager
async def rollout(stack: Stack, topic_prefix: str, old: Version) -> AsyncIterator[Rollout]:
    """Make an installation of a version: its schema, its topics, a subscription, and no process yet."""
    async with empty_database(stack) as database:
        settings = settings_for(database)
        env = environment(
            settings,
            SLOTWIRE_MIGRATE__DATABASE_URL=database.owner_url,
            SLOTWIRE_ADMIN__PORT="0",
            SLOTWIRE_HTTP__DRAIN_SECONDS="0.5",
            SLOTWIRE_CALENDLY__API_URL="http://127.0.0.1:9",
            SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS=stack.kafka_bootstrap_servers,
            SLOTWIRE_KAFKA__TOPIC_PREFIX=topic_prefix,
            SLOTWIRE_KAFKA__PARTITIONS="4",
            SLOTWIRE_KAFKA__REPLICATION_FACTOR="1",
            SLOTWIRE_KAFKA__MIN_INSYNC_REPLICAS="1",
            SLOTWIRE_AGENTS__GROUP_INSTANCE_ID="ledger",
        )
        migrated = await old.run("migrate", env=env)
        assert migrated.code == 0, migrated.stderr
        hook = await make_hook(settings, database)
        owner = await asyncpg.connect(database.owner_url)
        await owner.execute(f"{LEDGER}; GRANT ALL ON public.ledger, public.ledger_number_seq TO slotwire_agents")
        await owner.close()
        yield Rollout(stack, database, topic_prefix, env, hook)
