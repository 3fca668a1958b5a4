"""Clients of MCP Events that keep their cursor, and begin again from it when the server is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from mcp_types import INTERNAL_ERROR

from tests.support.mcp_events import CREATED, until
from tests.support.mcp_request import wire_request

EVENT = "notifications/events/event"
PAGE = 7
"""Events of one poll."""


@dataclass
class DurableClient:
    """Reads events by one mode.

    Attributes:
        url: the agent's endpoint.
        token: makes a token.
        cursor: the place up to which it has everything.
        ids: the ids of the events that came, in their order.
        begun: how often it had to begin again.
        is_there: whether the server is there, as far as it knows; of a stream, whether one is open.
        pace: awaited before each poll; a stream goes as fast as it is sent.
    """

    url: str
    token: Callable[[], str]
    cursor: str
    ids: list[str] = field(default_factory=list)
    begun: int = 0
    is_there: bool = True
    pace: Callable[[], Awaitable[None]] | None = None

    async def poll(self, events: int) -> None:
        """Poll, until so many events have come."""
        async with httpx.AsyncClient(timeout=60) as http:
            while len(self.ids) < events:
                if self.pace is not None:
                    await self.pace()
                try:
                    headers, body = self._asked("events/poll", {"maxEvents": PAGE})
                    answer = await http.post(self.url, json=body, headers=headers)
                    result = _require_there(answer, next(_messages(answer.text.splitlines()), {})).get("result")
                except httpx.TransportError:
                    await self._again()
                    continue
                assert result is not None, answer.text
                assert result["truncated"] is False
                self.ids += [each["eventId"] for each in result["events"]]
                self.cursor = result["cursor"]

    async def stream(self) -> None:
        """Read streams one after the other, until it is cancelled."""
        async with httpx.AsyncClient(timeout=60) as http:
            while True:
                self.is_there = False
                headers, body = self._asked("events/stream", {})
                try:
                    async with http.stream("POST", self.url, json=body, headers=headers) as answer:
                        async for line in answer.aiter_lines():
                            for message in _messages([line]):
                                self._take(_require_there(answer, message))
                        _require_there(answer, {})
                except httpx.TransportError:
                    await self._again()

    def _asked(self, method: str, more: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        return wire_request(self.token(), method, {"name": CREATED, "arguments": {}, "cursor": self.cursor, **more})

    def _take(self, message: Mapping[str, Any]) -> None:
        self.is_there = True
        told = message.get("params", {})
        assert not told.get("truncated"), told
        if message.get("method") == EVENT:
            self.ids.append(told["eventId"])
        if told.get("cursor"):
            self.cursor = told["cursor"]

    async def _again(self) -> None:
        """Wait until the server is there again."""
        self.begun += 1
        self.is_there = False
        await until(self._answers)
        self.is_there = True

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(self.url).port)
        except OSError:
            return False
        writer.close()
        return True


def _require_there(answer: httpx.Response, message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take a server that has no Postgres for now for one that is not there: its client tries again."""
    if answer.status_code == 503 or message.get("error", {}).get("code") == INTERNAL_ERROR:
        raise httpx.RemoteProtocolError("not there")
    assert answer.status_code == 200, message
    return message


def _messages(lines: list[str]) -> Any:
    """Give the messages of an answer, which is JSON or a stream of server-sent events."""
    for line in lines:
        text = line.removeprefix("data:").strip()
        if text.startswith("{"):
            yield json.loads(text)
