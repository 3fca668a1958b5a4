"""A connection on which a test sends octets by hand, and reads what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

SECONDS = 60
"""How long anything may take."""
NOT_HTTP = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "nonsense": b"\x00\xff nonsense\r\n\r\n",
}


class Wire:
    """One connection to a listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._writer.write(octets)

    async def answer(self) -> tuple[int, bytes]:
        """Read one answer with its body; return its status, and all of it."""
        async with asyncio.timeout(SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            body = await self._reader.readexactly(length)
        return int(head.split(b" ", 2)[1]), head + body

    async def until_closed(self) -> bytes:
        """Read until the server closes the connection; return what came."""
        got = b""
        async with asyncio.timeout(SECONDS):
            try:
                while more := await self._reader.read(65_536):
                    got += more
            except ConnectionError:
                pass  # a reset: octets of ours were not read
        return got

    def stop_reading(self) -> None:
        """Read nothing more, so that answers pile up."""
        self._reader._transport.pause_reading()  # type: ignore[attr-defined]  # streams have no word for it

    def abort(self) -> None:
        """Leave at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def wires(url: str, count: int) -> AsyncIterator[list[Wire]]:
    """Connect so many times, and leave with the block."""
    parts, made = urlsplit(url), list[Wire]()
    try:
        for _ in range(count):
            made.append(Wire(*await asyncio.open_connection(parts.hostname, parts.port)))
        yield made
    finally:
        for wire in made:
            wire.abort()
