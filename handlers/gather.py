"""Many small questions as few large ones: what is asked while a question is on its way goes into the next.

There is no timer: a lone question leaves at once, and under load the size follows the load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import Generic, TypeVar

MAX_TOGETHER = 500
"""Questions that go out as one at the most."""

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
Reply = Callable[[Mapping[K, R]], None]


class Gathered(Generic[K, R]):
    """Asks for many keys at once, one question at a time.

    The question travels in a task of its own, so that whoever is interrupted while waiting takes nobody's
    answer away.
    """

    def __init__(self, ask: Callable[[tuple[K, ...], Reply[K, R]], Awaitable[None]]) -> None:
        """Make a gathering.

        Args:
            ask: asks for some keys and calls its second argument with the answers as early as it can: those who
                wait go on then, whatever it still has to tidy up. It answers every key or raises.
        """
        self._ask = ask
        self._waiting: dict[K, asyncio.Future[R]] = {}
        self._carrier: asyncio.Task[None] | None = None

    async def __call__(self, key: K) -> R:
        """Ask for one key, alone or with others.

        Raises:
            Exception: what the question raised; all who were in it get the same.
        """
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._carrier is None:
            self._carrier = asyncio.create_task(self._carry(), name="gathered questions")
        return await asyncio.shield(future)

    async def _carry(self) -> None:
        try:
            while self._waiting:
                keys = tuple(self._waiting)[:MAX_TOGETHER]
                asked = {key: self._waiting.pop(key) for key in keys}
                try:
                    await self._ask(keys, partial(_reply, asked))
                except Exception as error:  # noqa: BLE001 - those who wait get it, and judge it
                    _fail(asked, error)
        finally:
            self._carrier = None


def _reply(asked: Mapping[K, asyncio.Future[R]], answers: Mapping[K, R]) -> None:
    for key, future in asked.items():
        if not future.done():
            future.set_result(answers[key])


def _fail(asked: Mapping[K, asyncio.Future[R]], error: Exception) -> None:
    for future in asked.values():
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever waited may be gone; that is no reason for a warning
