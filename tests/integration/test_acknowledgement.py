"""What the endpoint's own answer relies on in aiohttp, shown on the installed version."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from slotwire.ingest.receive.endpoint import ACKNOWLEDGED

_REQUEST = b"POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
_BARE = re.compile(rb"HTTP/1\.1 200 OK\r\nContent-Length: 0\r\nDate: [^\r\n]{29}\r\n\r\n")
_USED = ["__http_exception__", "prepare", "write_eof", "keep_alive"]
"""All that aiohttp may ask of a response; the first one is absent, as in every response that is no exception."""
_SECONDS = 60


class _Watched(type(ACKNOWLEDGED)):  # type: ignore[misc]  # the class is the endpoint's own
    """The endpoint's answer, which notes what aiohttp asks of it."""

    asked: list[str]
    gone = False

    def __getattribute__(self, name: str) -> Any:
        if name in {"asked", "gone"} or (name.startswith("_") and name != "__http_exception__"):
            return super().__getattribute__(name)
        self.asked.append(name)
        return super().__getattribute__(name)

    async def prepare(self, request: web.BaseRequest) -> None:
        if self.gone:
            raise ConnectionResetError
        await super().prepare(request)


@asynccontextmanager
async def _answering(response: web.StreamResponse) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve one answer to every request, and yield a connection to the server."""

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return response

    server = web.Server(handle, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    try:
        async with asyncio.timeout(_SECONDS):
            yield reader, writer
    finally:
        writer.close()
        listener.close()
        await server.shutdown()


def _watched(*, gone: bool = False) -> _Watched:
    response = _Watched()
    response.gone, response.asked = gone, []
    return response


async def test_aiohttp_asks_nothing_else_of_the_answer() -> None:
    """Aiohttp asks a response for `prepare`, `write_eof` and `keep_alive`, in this order, and for nothing else."""
    response = _watched()
    async with _answering(response) as (reader, writer):
        for _ in range(2):
            writer.write(_REQUEST)
            assert _BARE.fullmatch(await reader.readuntil(b"\r\n\r\n"))
    assert response.asked == _USED * 2


async def test_nothing_else_is_on_the_wire() -> None:
    """Two requests sent at once get two answers in order on one connection, and no other byte."""
    async with _answering(ACKNOWLEDGED) as (reader, writer):
        writer.write(_REQUEST * 2)
        answers = [await reader.readuntil(b"\r\n\r\n") for _ in range(2)]
        writer.write_eof()
        rest = await reader.read()
    assert all(_BARE.fullmatch(each) for each in answers)
    assert rest == b""


async def test_a_client_that_has_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A ConnectionError from `prepare` means to aiohttp that the client has gone: nothing is sent or logged."""
    response = _watched(gone=True)
    async with _answering(response) as (reader, writer):
        writer.write(_REQUEST)
        assert await reader.read() == b""
    assert response.asked == _USED[:2]
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
