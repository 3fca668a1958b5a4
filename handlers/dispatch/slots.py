"""How many runs of an agent go on at once in a process, altogether and for one organization."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from slotwire.handlers.registry import Agent


@dataclass
class _Places:
    """The runs of one organization.

    Attributes:
        users: those that run or wait; with none of them it is forgotten.
    """

    free: asyncio.Semaphore
    users: int = field(default=0)


class RunSlots:
    """Lets in as many runs as the agent says; the others wait, in the order they came.

    Attributes:
        limited: whether the agent says so at all.
    """

    def __init__(self, agent: Agent) -> None:
        self._all = None if agent.concurrency is None else asyncio.Semaphore(agent.concurrency)
        self._each = agent.organization_concurrency
        self._organizations: dict[str, _Places] = {}
        self.limited = self._all is not None or self._each is not None

    @asynccontextmanager
    async def taken(self, organization: str) -> AsyncIterator[None]:
        """Hold a slot while the block runs: first one of the organization's, so that its queue holds up nobody else."""
        async with AsyncExitStack() as stack:
            if self._each is not None:
                await stack.enter_async_context(self._of(organization, self._each))
            if self._all is not None:
                await stack.enter_async_context(self._all)
            yield

    @asynccontextmanager
    async def _of(self, organization: str, each: int) -> AsyncIterator[None]:
        places = self._organizations.setdefault(organization, _Places(asyncio.Semaphore(each)))
        places.users += 1
        try:
            async with places.free:
                yield
        finally:
            places.users -= 1
            if not places.users:
                del self._organizations[organization]
