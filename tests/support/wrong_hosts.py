"""Places where Postgres should be and is not: they hang, refuse, are read-only, or are another server.

Each yields an address on 127.0.0.1, and speaks no more of Postgres' protocol than the first answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

_TLS = 80877103
"""The code of the request for TLS, which is refused by one letter."""


@dataclass
class WrongHost:
    """A place that is not our Postgres.

    Attributes:
        place: host and port, as an address has them.
        came: set once somebody has come.
        left: set each time that somebody who had come has gone.
    """

    place: str
    came: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def hanging() -> AsyncIterator[WrongHost]:
    """A host that takes connections and never says a word, as one whose disk hangs does."""
    async with _saying(b"", at_once=False) as host:
        yield host


@asynccontextmanager
async def unreachable() -> AsyncIterator[WrongHost]:
    """A host of which not even the connection comes about, as behind a partition: its backlog is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        place = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(place)
            yield WrongHost(f"127.0.0.1:{place[1]}")
        finally:
            for each in waiting:
                each.close()


@asynccontextmanager
async def refusing() -> AsyncIterator[WrongHost]:
    """A host on which nothing listens."""
    with socket.socket() as server:  # bound, so that nobody else takes the port, and not listening
        server.bind(("127.0.0.1", 0))
        yield WrongHost(f"127.0.0.1:{server.getsockname()[1]}")


@asynccontextmanager
async def read_only() -> AsyncIterator[WrongHost]:
    """A standby."""
    told = {"server_version": "18.0", "in_hot_standby": "on", "default_transaction_read_only": "off"}
    settings = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in told.items())
    welcome = _message(b"R", struct.pack("!i", 0)) + settings
    async with _saying(welcome + _message(b"K", struct.pack("!ii", 1, 1)) + _message(b"Z", b"I")) as host:
        yield host


@asynccontextmanager
async def answering(state: str, text: str) -> AsyncIterator[WrongHost]:
    """A server that refuses every connection with a SQLSTATE."""
    fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": text}
    error = "".join(f"{name}{value}\0" for name, value in fields.items()).encode() + b"\0"
    async with _saying(_message(b"E", error)) as host:
        yield host


@asynccontextmanager
async def without_database() -> AsyncIterator[WrongHost]:
    """Another server, which has no such database."""
    async with answering("3D000", 'database "slotwire" does not exist') as host:
        yield host


@asynccontextmanager
async def starting() -> AsyncIterator[WrongHost]:
    """A server that recovers."""
    async with answering("57P03", "the database system is starting up") as host:
        yield host


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@asynccontextmanager
async def _saying(answer: bytes, *, at_once: bool = True) -> AsyncIterator[WrongHost]:
    """Listen, and give everybody who has sent the first message this answer."""
    host = WrongHost("")

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.came.set()
        try:
            while at_once:
                size, code = struct.unpack("!ii", await reader.readexactly(8))
                if code != _TLS:
                    await reader.readexactly(size - 8)
                    writer.write(answer)
                    break
                writer.write(b"N")
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            host.left.set()
            writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    async with server:
        host.place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield host


def forget_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no name that ends with `.invalid` be found, at once: a resolver that is out of reach would hang instead."""
    look_up = socket.getaddrinfo

    def found(host: Any, *arguments: Any, **named: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", found)
