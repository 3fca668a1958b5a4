"""Many small questions to Postgres as few: what is asked while a call is under way goes together in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")

MOST = 500
"""Questions of one call."""


class Together(Generic[A, R]):
    """Gathers what is asked. There is no timer: a call begins when the last one has returned."""

    def __init__(self, call: Callable[[Sequence[A]], Awaitable[Sequence[R]]]) -> None:
        """Take what answers.

        Args:
            call: answers several questions, in their order.
        """
        self._call = call
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return self._running is None

    async def __call__(self, question: A) -> R:
        """Ask one; raises what the call raises."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="mcp questions")
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                try:
                    answers = await self._call([question for question, _ in asked])
                except Exception as error:  # noqa: BLE001 - each of those who ask gets it
                    for _, answer in asked:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                for (_, answer), answered in zip(asked, answers, strict=True):
                    if not answer.done():
                        answer.set_result(answered)
        finally:
            self._running = None
            for _, answer in self._waiting:
                answer.cancel()
