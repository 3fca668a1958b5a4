"""Handlers of many tenants run in one task, each with context variables and a limit of time of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from slotwire.handlers.dispatch.isolation import RanTooLong, isolated
from tests.support.agent_setup import run_ready_tasks


async def test_context_variables_are_the_run_s_own() -> None:
    """Nobody sees what a handler set, whether it waits or not; the handler itself sees it after it has waited."""
    tenant = ContextVar("tenant", default="nobody")
    found: list[str] = []

    async def handler(name: str, *, waits: bool) -> str:
        found.append(tenant.get())
        tenant.set(name)
        if waits:
            await asyncio.sleep(0)
        return await asyncio.create_task(read(tenant)) if waits else tenant.get()

    for name, waits in (("a", False), ("b", True), ("c", False)):
        assert await isolated(handler(name, waits=waits), partial(asyncio.timeout, 5)) == name
    assert ({*found}, tenant.get()) == ({"nobody"}, "nobody")


async def read(tenant: ContextVar[str]) -> str:
    """Read the variable in a task that the handler begins."""
    return tenant.get()


async def test_what_ends_a_wait_reaches_the_handler() -> None:
    """An error of what it waits for, the end of its time, and a cancellation: it may catch each, and go on."""
    caught: list[str] = []

    async def handler(wait: Coroutine[Any, Any, object]) -> None:
        try:
            await wait
        except (ValueError, asyncio.CancelledError) as error:
            caught.append(type(error).__name__)
            raise

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("away")

    with pytest.raises(ValueError, match="away"):
        await isolated(handler(failing()), partial(asyncio.timeout, 5))
    with pytest.raises(RanTooLong):
        await isolated(handler(asyncio.Event().wait()), partial(asyncio.timeout, 0))
    running = asyncio.create_task(isolated(handler(asyncio.Event().wait()), partial(asyncio.timeout, 5)))
    await run_ready_tasks()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert caught == ["ValueError", "CancelledError", "CancelledError"]
