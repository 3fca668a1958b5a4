"""Hostile clients, in a process of their own so that their CPU is told apart: `python -m tests.fault.attackers`.

It reads one line of JSON, a `Plan`, prints a line when each client has connected once, floods until it reads another
line, and then prints one line of JSON, a `Toll`.
Each client keeps one connection and does one thing with it; when it is closed, it comes again after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle

import orjson
import uvloop

from tests.support.wire import NOT_HTTP

TRICKLE_SECONDS = 0.25
"""Between two octets, of those who send one at a time."""
BURST = 65_536
"""Octets of a burst."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to attack, and with how many.

    Attributes:
        ports: of the target, on 127.0.0.1, by listener.
        hook: the path of a real hook, such as a tenant knows; its signature is never right.
        crowds: clients by listener and kind (a name in `KINDS`).
        pause: seconds between two connections of one client.
    """

    ports: dict[str, int]
    hook: str
    crowds: dict[str, dict[str, int]]
    pause: float


@dataclass(slots=True)
class Toll:
    """What the attackers did.

    Attributes:
        connected: connections made.
        closed: connections that the target closed.
        most: the most that were open at once.
        cpu_seconds: CPU of the attackers.
    """

    connected: int = 0
    closed: int = 0
    most: int = 0
    cpu_seconds: float = 0.0
    open: int = field(default=0)


Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]
"""Does its worst on one connection, and returns when the target has closed it."""


def _head(hook: str, *lines: str) -> bytes:
    fields = ("Host: hooks.example.com", f"Calendly-Webhook-Signature: t=1,v1={'0' * 64}", *lines)
    return "\r\n".join([f"POST {hook} HTTP/1.1", *fields, "", ""]).encode()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(BURST):
        pass


async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: str) -> None:
    """Make one request, so that the first header has come, and stay."""
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
    await _until_closed(reader)


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: str) -> None:
    """Stay without a word."""
    await _until_closed(reader)


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hook: str) -> None:
    """Send a header an octet at a time."""
    for octet in cycle(_head(hook).removesuffix(b"\r\n\r\n") + b"\r\nX-More: " + b"y" * 900):
        writer.write(bytes((octet,)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TRICKLE_SECONDS):
                await _until_closed(reader)
                return


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hook: str) -> None:
    """Announce a body, and send half of it."""
    writer.write(_head(hook, "Content-Length: 4000") + b"{" * 2_000)
    await _until_closed(reader)


async def chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hook: str) -> None:
    """Send a body in chunks of one octet, as fast as they are taken."""
    writer.write(_head(hook, "Transfer-Encoding: chunked") + b"1\r\n{\r\n" * (BURST // 6))
    await _until_closed(reader)


async def forged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hook: str) -> None:
    """Do the same to a hook that is none."""
    await chunked(reader, writer, hook[:-4] + "AAAA")


async def pipelined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: str) -> None:
    """Send many requests at once, and read no answer."""
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # streams have no word for it
    while not writer.transport.is_closing():
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(4 * TRICKLE_SECONDS)


async def foreign(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: str) -> None:
    """Speak TLS, HTTP/2, and nonsense."""
    writer.write(next(_FOREIGN))
    await _until_closed(reader)


_FOREIGN = cycle(NOT_HTTP.values())
KINDS: dict[str, Client] = {
    each.__name__: each for each in (idle, silent, slow, half, chunked, forged, pipelined, foreign)
}


@asynccontextmanager
async def _connection(port: int, toll: Toll) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    toll.connected += 1
    toll.open += 1
    toll.most = max(toll.most, toll.open)
    try:
        yield reader, writer
        toll.closed += 1
    finally:
        toll.open -= 1
        writer.transport.abort()


async def _again_and_again(
    client: Client, plan: Plan, listener: str, toll: Toll, begun: asyncio.Event, delay: float
) -> None:
    await asyncio.sleep(delay)
    while True:
        with contextlib.suppress(OSError):
            async with _connection(plan.ports[listener], toll) as (reader, writer):
                begun.set()
                with contextlib.suppress(OSError, RuntimeError):  # uvloop raises the second when the target has closed
                    await client(reader, writer, plan.hook)
        await asyncio.sleep(plan.pause)


async def _flood(plan: Plan) -> Toll:
    toll, begun = Toll(), list[asyncio.Event]()

    def new() -> asyncio.Event:
        begun.append(asyncio.Event())
        return begun[-1]

    clients = [
        asyncio.create_task(_again_and_again(KINDS[kind], plan, listener, toll, new(), at / count))
        for listener, crowd in plan.crowds.items()
        for kind, count in crowd.items()
        for at in range(count)
    ]
    for event in begun:
        await event.wait()
    sys.stdout.write("standing\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    for client in clients:
        client.cancel()
    for ended in await asyncio.gather(*clients, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    used = resource.getrusage(resource.RUSAGE_SELF)
    toll.cpu_seconds = used.ru_utime + used.ru_stime
    return toll


def main() -> None:
    """Flood as standard input says."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    plan = Plan(**orjson.loads(sys.stdin.readline()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        toll = runner.run(_flood(plan))
    sys.stdout.write(orjson.dumps(asdict(toll)).decode() + "\n")


if __name__ == "__main__":
    main()
