"""TLS in front of the embedded Postgres, which has none: it takes encrypted connections only, as `hostssl` does."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_SSL_REQUEST = struct.pack(">ii", 8, 80877103)
_CHUNK = 65_536


@dataclass
class TlsFront:
    """What the front has seen.

    Attributes:
        port: where it listens, on 127.0.0.1.
        sessions: the common name in the client's certificate of each TLS session; None for a client without one.
        refused: how many connections were not encrypted, or not let in.
    """

    port: int = 0
    sessions: list[str | None] = field(default_factory=list)
    refused: int = 0


@asynccontextmanager
async def tls_front(server_port: int, certificate: Path, *, clients: Path | None = None) -> AsyncIterator[TlsFront]:
    """Run the front while the block runs.

    Args:
        server_port: of the Postgres behind it.
        certificate: a PEM file with its certificate and key.
        clients: the authority whose clients alone are let in; None lets in everybody.
    """
    front = TlsFront()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.load_verify_locations(cafile=clients)
        context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                if await reader.readexactly(8) != _SSL_REQUEST:
                    front.refused += 1
                    return
                writer.write(b"S")
                await writer.drain()
                try:
                    await writer.start_tls(context)
                except ssl.SSLError:
                    front.refused += 1
                    return
                front.sessions.append(_common_name(writer.get_extra_info("peercert")))
                behind, to_server = await asyncio.open_connection("127.0.0.1", server_port)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(reader, to_server))
                    both.create_task(_copy(behind, writer))
            finally:
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    front.port = server.sockets[0].getsockname()[1]
    async with server:
        yield front


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await source.read(_CHUNK):
            target.write(part)
            await target.drain()
    target.close()


def _common_name(certificate: dict[str, tuple[tuple[tuple[str, str], ...], ...]] | None) -> str | None:
    names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
    return names.get("commonName")
