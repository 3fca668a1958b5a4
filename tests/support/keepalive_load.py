"""A plain keep-alive client for fault tests: one connection, one request at a time, every ending named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.public_endpoint import SIGNATURE, Hook, invitee_body, new_invitee, sign


@dataclass
class LoadCounts:
    """What a load has seen so far.

    Attributes:
        acknowledged: invitees whose delivery was answered 2xx.
        answered: how often each status came.
        cut: requests whose answer never came or came in part.
        told_to_close: answers with `Connection: close`.
    """

    acknowledged: set[str] = field(default_factory=set)
    answered: dict[int, int] = field(default_factory=dict)
    cut: int = 0
    told_to_close: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        """Wake those who wait for a change."""
        self._changed.set()

    async def until(self, reached: Callable[[LoadCounts], bool], seconds: float = 120) -> None:
        """Wait until the counts satisfy a condition."""
        async with asyncio.timeout(seconds):
            while not reached(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_more(self, more: int) -> None:
        """Wait until so many more deliveries are acknowledged."""
        goal = len(self.acknowledged) + more
        await self.until(lambda counts: len(counts.acknowledged) >= goal)


def request(hook: Hook, body: bytes) -> bytes:
    """Write a signed request for a kept connection."""
    head = (
        f"POST {hook.path} HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Length: {len(body)}\r\n"
        f"{SIGNATURE}: {sign(body, hook.key)}\r\n\r\n"
    )
    return head.encode() + body


async def send_until_stopped(
    port: int, hook: Hook, counts: LoadCounts, stop: asyncio.Event, *, leaves_when_told: bool = False
) -> None:
    """Send deliveries of new invitees over one kept connection, reconnecting when it is gone, until told to stop.

    A delivery that was not acknowledged is sent again, as Calendly does. A client that leaves when it is told
    to close is one behind a load balancer: it does not come back to a process that is not ready.
    """
    pending: str | None = None
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        try:
            while not stop.is_set():
                pending = pending or new_invitee()
                writer.write(request(hook, invitee_body(invitee=pending)))
                status, closing = await read_answer(reader)
                counts.answered[status] = counts.answered.get(status, 0) + 1
                if status == 200:
                    counts.acknowledged.add(pending)
                    pending = None
                if closing:
                    counts.told_to_close += 1
                counts.changed()
                if closing:
                    if leaves_when_told:
                        return
                    break
        except (OSError, EOFError):
            counts.cut += 1
        finally:
            writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read an answer; return its status, and whether it tells to close the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1]), b"connection: close" in head
