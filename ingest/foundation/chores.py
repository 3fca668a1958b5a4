"""Chores: what a process does again and again beside its own work, such as removing what is old."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from slotwire.ingest.foundation.errors import SlotwireError
from slotwire.ingest.foundation.lifecycle import pause
from slotwire.ingest.foundation.telemetry import get_logger


async def repeat(once: Callable[[], Awaitable[object]], *, stage: str, seconds: float | Callable[[], float]) -> None:
    """Make rounds until cancelled. One that fails is logged, and the next one does its work.

    Args:
        once: makes one round. What is no `SlotwireError` is a defect, and ends the process.
        stage: under which a failure is logged.
        seconds: the pause between two rounds, about; or what says it after each.
    """
    log = get_logger(stage)
    while True:
        try:
            await once()
        except SlotwireError as problem:
            log.warning("round_failed", error=problem.message)
        await pause(seconds() if callable(seconds) else seconds)
