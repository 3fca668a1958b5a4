"""What a call to Calendly costs of our CPU, beside httpx's own: the numbers of docs/decisions/0006.

    python -m tests.bench.calls

Three ways call one server, which is another process, in turn: httpx alone, our transport for a caller that is not
counted, and our transport with its turns and its rows in the audit. In about half a minute it prints one
table, one call at a time and eight at once.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import httpx
import orjson
import uvloop
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import users
from slotwire.ingest.control.calendly_client.budget import Budgets
from slotwire.ingest.control.calendly_client.leases import Priority
from slotwire.ingest.control.calendly_client.transport import open_calendly
from slotwire.ingest.control.calendly_client.uses import Bearer, Behalf
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.postgres import create_pool
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import create_database, migrate_template
from slotwire.ingest.local.stack import StackOptions, embedded_stack, ephemeral_folder
from tests.support.public_endpoint import settings_for
from tests.support.remembered_uses import RememberedUses

USER = "https://api.calendly.com/users/U"
BODY = orjson.dumps(
    {
        "resource": {
            "uri": USER,
            "name": "Ada",
            "email": "ada@example.com",
            "current_organization": "https://api.calendly.com/organizations/O",
        }
    }
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: 1000000\r\n"
    b"X-RateLimit-Remaining: 900000\r\nX-RateLimit-Reset: 30\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
ROUNDS, CALLS = 12, 200
Way = Callable[[], Awaitable[object]]


def serve(ready: Connection) -> None:
    """Answer every request as Calendly answers `GET /users/me`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has closed the connection
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def cpu_of(way: Way, at_once: int) -> float:
    """Return the milliseconds of this process's CPU that a call costs."""

    async def line() -> None:
        for _ in range(CALLS // at_once):
            await way()

    began = time.process_time()
    await asyncio.gather(*(line() for _ in range(at_once)))
    return (time.process_time() - began) / CALLS * 1_000


async def compare(ways: Mapping[str, Way]) -> None:
    """Measure the ways in turn and print the medians."""
    names = "  ".join(f"{name:>10}" for name in ways)
    sys.stdout.write(f"at once  {names}  beyond httpx, ms of CPU\n")
    for at_once in (1, 8):
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name in (*ways,) if turn % 2 else (*reversed(tuple(ways)),):
                cost = await cpu_of(ways[name], at_once)
                if turn:
                    costs[name].append(cost)
        beyond = statistics.median(ours - bare for ours, bare in zip(costs["turns"], costs["httpx"], strict=True))
        medians = "  ".join(f"{statistics.median(each):>10.3f}" for each in costs.values())
        sys.stdout.write(f"{at_once:>7}  {medians}  {beyond:.3f}\n")


async def measure(folder: Path, url: str) -> None:
    """Measure and print."""
    async with embedded_stack(folder, report=lambda _: None, options=StackOptions(ephemeral=True)) as stack:
        await migrate_template(stack.postgres)
        database = await create_database(stack.postgres)
        settings = settings_for(database).database
        calendly = CalendlySettings(api_url=url, assumed_calls_per_minute=1_000_000)
        async with (
            create_pool(database.url_of["control"], settings, application="bench") as pool,
            open_calendly(calendly, Budgets(pool, SystemClock(), calendly, uses=RememberedUses())) as alike,
            open_calendly(calendly, Budgets(pool, SystemClock(), calendly)) as shared,
            httpx.AsyncClient(base_url=url, trust_env=False) as bare,
        ):
            token = SecretStr("token")
            uncounted = alike.transport(token, alike.budgets.caller(None, Priority.SWEEP))
            by = Bearer("O", uuid4(), Behalf("bench", "agent", uuid4()), lambda address: f"k1:{address}")
            counted = shared.transport(token, shared.budgets.caller(USER, Priority.SWEEP, by=by))

            async def alone() -> None:
                async with bare.stream("GET", "/users/me", headers={"Authorization": "Bearer token"}) as response:
                    orjson.loads(await response.aread())

            await compare(
                {"httpx": alone, "transport": lambda: users.me(uncounted), "turns": lambda: users.me(counted)}
            )


if __name__ == "__main__":
    begin, end = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(end,), daemon=True)
    server.start()
    try:
        with ephemeral_folder() as place:
            uvloop.run(measure(place, f"http://127.0.0.1:{begin.recv()}"))
    finally:
        server.terminate()
        server.join()
