"""Turns many small calls into few large ones: calls that arrive while one is under way go into the next batch.

There is no timer: a single call leaves at once, and under load the batches grow with the load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import Generic, TypeVar

MAX_BATCH_CALLS = 500
"""The most keys in one batch."""

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
Reply = Callable[[Mapping[K, R]], None]


class CallBatcher(Generic[K, R]):
    """Calls a function with many keys at once, one batch at a time.

    The batch runs in a task of its own, so that a caller that is cancelled while it waits does not cancel the others.
    """

    def __init__(self, call: Callable[[tuple[K, ...], Reply[K, R]], Awaitable[None]]) -> None:
        """Make a batcher that has nothing to do yet.

        Args:
            call: takes the keys and a function to reply with. It replies with a result for every key as early as it
                can, because the callers continue then, or raises.
        """
        self._call = call
        self._waiting: dict[K, list[asyncio.Future[R]]] = {}
        self._carrier: asyncio.Task[None] | None = None

    async def __call__(self, key: K) -> R:
        """Call with one key, alone or together with others.

        Raises:
            Exception: what the batch raised; every caller in it gets the same.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._carrier is None:
            self._carrier = asyncio.create_task(self._carry(), name="batched calls")
        return await future

    async def _carry(self) -> None:
        try:
            while self._waiting:
                keys = tuple(self._waiting)[:MAX_BATCH_CALLS]
                batch = {key: self._waiting.pop(key) for key in keys}
                try:
                    await self._call(keys, partial(_reply, batch))
                except Exception as error:  # noqa: BLE001 - each caller gets it and decides
                    _fail(batch, error)
        finally:
            self._carrier = None


def _reply(batch: Mapping[K, list[asyncio.Future[R]]], results: Mapping[K, R]) -> None:
    for key, futures in batch.items():
        for future in futures:
            if not future.done():
                future.set_result(results[key])


def _fail(batch: Mapping[K, list[asyncio.Future[R]]], error: Exception) -> None:
    for futures in batch.values():
        for future in futures:
            if not future.done():
                future.set_exception(error)
