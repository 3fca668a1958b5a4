"""What Slotwire is measured beside: a bare endpoint, one that stores, and the service most people would write.

bare     aiohttp on uvloop: reads, verifies, parses, answers. Nothing is stored: the ceiling of this stack.
grouped  the same, then the bodies of all that came meanwhile in one INSERT, then the answers: the ceiling of whatever
         stores a delivery before it answers. No tenant, no order, no limit, nothing that is made of it.
naive    as bare, then one INSERT of body and event on an asyncpg pool, then one awaited idempotent produce with
         `acks=all`, then the answer.

The tables store bodies as ours do: uncompressed, in their rows. All verify with Slotwire's own `verify`, so that it
weighs the same for all.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

from slotwire.ingest.foundation.postgres import Connection
from slotwire.ingest.receive.verify import SIGNATURE_HEADER, HookTenant, ReceivedDelivery, VerifiedDelivery, verify

TABLE = """
CREATE SCHEMA IF NOT EXISTS naive;
CREATE TABLE naive.events (
    id uuid PRIMARY KEY, received_at timestamptz NOT NULL, body bytea NOT NULL, event bytea NOT NULL
);
ALTER TABLE naive.events ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN event SET STORAGE EXTERNAL;
ALTER TABLE naive.events SET (toast_tuple_target = 8160);
CREATE TABLE naive.grouped (LIKE naive.events INCLUDING ALL);
ALTER TABLE naive.grouped DROP COLUMN event;
ALTER TABLE naive.grouped SET (toast_tuple_target = 8160);
"""
INSERT_GROUP = """
INSERT INTO naive.grouped (id, received_at, body)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bytea[])
"""
INSERT = "INSERT INTO naive.events (id, received_at, body, event) VALUES ($1, $2, $3, $4)"
TOPIC = "naive-events"
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Checker:
    """Reads and verifies a request for one known tenant and key."""

    def __init__(self, key: str) -> None:
        self._keys = {UUID(int=0): key.encode()}
        self._tenant = HookTenant("BENCH", 0, UUID(int=0))

    async def check(self, request: web.Request) -> VerifiedDelivery:
        """Read the body and verify its signature."""
        body = await request.read()
        now = datetime.now(UTC)
        signatures = tuple(request.headers.getall(SIGNATURE_HEADER, ()))
        delivery = ReceivedDelivery(uuid4(), body, signatures, "", now, None)
        return verify(delivery, self._tenant, self._keys, now=now)


def bare(checker: Checker) -> Handler:
    """Make the bare endpoint's handler."""

    async def handle(request: web.Request) -> web.Response:
        delivery = await checker.check(request)
        orjson.loads(delivery.body)
        return web.Response()

    return handle


def _event(delivery: VerifiedDelivery) -> tuple[bytes, dict[str, Any]]:
    """Make an event of what was told, as it was told; returns the payload too."""
    told = orjson.loads(delivery.body)
    payload = told["payload"]
    return orjson.dumps({"id": str(delivery.id), "type": told["event"], "data": payload}), payload


class Group:
    """Gathers deliveries while an INSERT is under way, and inserts them together."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[tuple[VerifiedDelivery, asyncio.Future[None]]] = []
        self._some = asyncio.Event()

    async def handle(self, delivery: VerifiedDelivery) -> None:
        """Return once the delivery is committed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, done))
        self._some.set()
        await done

    async def run(self) -> None:
        """Insert until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            group, self._waiting = self._waiting, []
            deliveries = [delivery for delivery, _ in group]
            await self._connection.execute(
                INSERT_GROUP,
                [each.id for each in deliveries],
                [each.received_at for each in deliveries],
                [each.body for each in deliveries],
            )
            for _, done in group:
                done.set_result(None)


def grouped(checker: Checker, group: Group) -> Handler:
    """Make the handler of the endpoint that stores."""

    async def handle(request: web.Request) -> web.Response:
        delivery = await checker.check(request)
        orjson.loads(delivery.body)
        await group.handle(delivery)
        return web.Response()

    return handle


def naive(checker: Checker, pool: asyncpg.Pool[Any], producer: AIOKafkaProducer) -> Handler:
    """Make the naive service's handler."""

    async def handle(request: web.Request) -> web.Response:
        delivery = await checker.check(request)
        event, payload = _event(delivery)
        async with pool.acquire() as connection:
            await connection.execute(INSERT, delivery.id, delivery.received_at, delivery.body, event)
        await producer.send_and_wait(TOPIC, event, key=payload["uri"].encode())
        return web.Response()

    return handle


@asynccontextmanager
async def made(options: argparse.Namespace) -> AsyncIterator[Handler]:
    """Make the contender's handler with what it needs."""
    checker = Checker(options.key)
    if options.contender == "bare":
        yield bare(checker)
        return
    async with AsyncExitStack() as stack:
        if options.contender == "grouped":
            group = Group(await asyncpg.connect(options.dsn))
            running = asyncio.create_task(group.run())
            stack.callback(running.cancel)
            yield grouped(checker, group)
            return
        size = options.pool
        pool = await stack.enter_async_context(asyncpg.create_pool(options.dsn, min_size=size, max_size=size))
        producer = AIOKafkaProducer(bootstrap_servers=options.kafka, enable_idempotence=True, acks="all")
        stack.push_async_callback(producer.stop)
        await producer.start()
        yield naive(checker, pool, producer)


async def ready(_: web.Request) -> web.Response:
    """Say that it listens."""
    return web.Response()


async def serve(options: argparse.Namespace) -> None:
    """Serve until killed."""
    async with made(options) as handler:
        app = web.Application()
        app.router.add_post("/hooks/calendly/{hook}", handler)
        app.router.add_get("/readyz", ready)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", options.port).start()
        await asyncio.Event().wait()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=("bare", "grouped", "naive"))
    for name in ("--key", "--dsn", "--kafka"):
        parser.add_argument(name, default="")
    for name in ("--port", "--pool"):
        parser.add_argument(name, type=int, default=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
