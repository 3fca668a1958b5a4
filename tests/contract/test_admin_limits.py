"""Limits of the management API, at the limit and past it: requests at once, slow answers, bodies that never come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from prometheus_client import generate_latest
from pydantic import SecretStr

from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.admin_api import Limits
from slotwire.ingest.operate.problems import RETRY_AFTER_SECONDS
from tests.support.management_api import management_api
from tests.support.public_endpoint import settings_for

KEY = "slw_" + "A" * 43


@dataclass
class Silence:
    """A server that takes connections and never answers, until it is told to hang up."""

    port: int = 0
    knocked: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection and say nothing."""
        self.knocked.put_nowait(None)
        await self.over.wait()
        writer.close()


@asynccontextmanager
async def silent_calendly(database: Database) -> AsyncIterator[tuple[Silence, Settings]]:
    """Run such a server in Calendly's place."""
    async with silence() as (silent, _):
        api_url = f"http://127.0.0.1:{silent.port}"
        yield silent, settings_for(database).model_copy(update={"calendly": CalendlySettings(api_url=api_url)})


@asynccontextmanager
async def silence() -> AsyncIterator[tuple[Silence, Settings]]:
    """Run such a server, with settings that name it."""
    silent = Silence()
    server = await asyncio.start_server(silent.take, "127.0.0.1", 0)
    silent.port = port = server.sockets[0].getsockname()[1]
    try:
        yield silent, Settings(database_url=SecretStr(f"postgresql://u:p@127.0.0.1:{port}/d"))
    finally:
        silent.over.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("running", [1, 3])
async def test_requests_at_once(running: int, database: Database) -> None:
    """As many as allowed run at once; one more is 503 at once; when they have ended there is room again."""
    async with (
        silent_calendly(database) as (silent, settings),
        management_api(settings, limits=Limits(running=running)) as api,
    ):
        key, add = await api.key(), {"token": "x"}
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(api.ask("POST", "/v1/organizations", key, json=add)) for _ in range(running)]
            for _ in waiting:
                await silent.knocked.get()
            refused = await api.ask("GET", "/v1/events", key)
            unknown = await api.ask("GET", "/v1/events", KEY)
            silent.over.set()
        again = await api.ask("GET", "/v1/events", key)
    assert (refused.status_code, refused.json()["code"]) == (503, "too_busy")
    assert refused.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)
    assert unknown.status_code == 401
    assert {task.result().json()["code"] for task in waiting} == {"calendly_unreachable"}
    assert again.status_code == 200


async def test_an_answer_has_its_time() -> None:
    """What takes longer than the limit is 503, and not an error of ours."""
    async with silence() as (_, settings), management_api(settings, limits=Limits(answer_seconds=0.05)) as api:
        late = await api.ask("GET", "/v1/events", KEY)
    assert (late.status_code, late.json()["code"]) == (503, "answer_timeout")


async def test_a_body_that_never_comes_is_408(database: Database) -> None:
    """A body that is announced and not sent ends after its time, and costs no one else anything."""
    async with management_api(settings_for(database), limits=Limits(body_seconds=0.05)) as api:
        url, key = urlsplit(api.url), await api.key()
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        head = f"POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json"
        writer.write(f"{head}\r\nContent-Length: 20\r\n\r\n".encode())
        async with asyncio.timeout(5):
            answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        assert (await api.ask("GET", "/v1/events", key)).status_code == 200
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_requests_are_counted_by_the_form_of_their_route(database: Database) -> None:
    """The metric names routes as they are written, never an id or a path that somebody made up."""
    async with management_api(settings_for(database)) as api:
        key = await api.key()
        await api.ask("GET", "/v1/events/00000000-0000-0000-0000-00000000c0de", key)
        await api.ask("GET", "/made/up/secret", key)
    counted = generate_latest(REGISTRY).decode()
    assert 'slotwire_admin_requests_total{method="GET",route="/v1/events/{id}",status="404"}' in counted
    assert 'slotwire_admin_requests_total{method="",route="",status="404"}' in counted
    assert "00000000c0de" not in counted
    assert "made/up" not in counted
