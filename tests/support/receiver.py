"""A receiver of webhooks on this machine: it keeps what came, and answers as the test says, octet for octet."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certificates import Authority

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Write an answer."""
    lines = (f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True)
class ReceivedPost:
    """What came.

    Attributes:
        path: with its query.
        headers: by their names in lower case.
        body: its octets.
        connection: the number of its connection, from 1.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


async def _taken(_: ReceivedPost, __: asyncio.StreamWriter) -> bytes:
    return TAKEN


@dataclass
class Receiver:
    """The receiver.

    Attributes:
        port: where it listens, on 127.0.0.1.
        received: what came, in its order.
        names: the host names that TLS clients asked for.
        reply: what it answers; nothing closes the connection.
        connections: how many were opened.
    """

    port: int = 0
    received: list[ReceivedPost] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    reply: Callable[[ReceivedPost, asyncio.StreamWriter], Awaitable[bytes]] = _taken
    connections: int = 0

    def answers(self, *answers: bytes) -> None:
        """Answer with these, one after the other; the last one again and again."""
        left = list(answers)

        async def next_one(_: ReceivedPost, __: asyncio.StreamWriter) -> bytes:
            return left.pop(0) if len(left) > 1 else left[0]

        self.reply = next_one

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        number = self.connections
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                while True:
                    post = await _read(reader, number)
                    self.received.append(post)
                    said = await self.reply(post, writer)
                    writer.write(said)
                    await writer.drain()
                    if not said:
                        return
            finally:
                writer.close()


async def _read(reader: asyncio.StreamReader, number: int) -> ReceivedPost:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedPost(head[0].split(" ")[1], headers, body, number)


def tls_for(folder: Path, host: str, authority: Authority) -> ssl.SSLContext:
    """Make a server's context with a certificate for a host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("receiver", host=host).write(folder, "receiver"))
    return context


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None, *, port: int = 0) -> AsyncIterator[Receiver]:
    """Run a receiver while the block runs; with TLS where a context is given."""
    receiver = Receiver()
    if tls is not None:
        tls.sni_callback = lambda _, name, __: receiver.names.append(name)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await receiver.serve(reader, writer)
        finally:
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
