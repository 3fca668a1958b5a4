"""Coroutines that a handler has made and nobody awaited: what they were to do has not been done.

Python tells of one when it is dropped, in the context of whoever dropped it. Here that becomes a failed run, because a
statement without `await` would else count as done. One that the collector of garbage finds belongs to nobody any more:
it stays a warning.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any


class _Collector:
    """Knows whether garbage is being collected."""

    def __init__(self) -> None:
        self.works = False

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        """Take what `gc.callbacks` are told."""
        del info
        self.works = phase == "start"


_COLLECTOR = _Collector()
gc.callbacks.append(_COLLECTOR)


class Dropped:
    """What one run has dropped.

    Attributes:
        first: the first coroutine, and the line that dropped it; empty where all were awaited.
    """

    __slots__ = ("first", "open")

    def __init__(self) -> None:
        self.first = ""
        self.open = True

    def end(self) -> None:
        """Note nothing more."""
        self.open = False


_DROPPED: ContextVar[Dropped | None] = ContextVar("dropped", default=None)


def noting() -> Dropped:
    """Note what is dropped in this context from now on, and in those that are made from it."""
    dropped = Dropped()
    _DROPPED.set(dropped)
    return dropped


def noted() -> Dropped | None:
    """Return what the run of this context notes; None outside of runs."""
    return _DROPPED.get()


def dropped_so_far() -> str:
    """Return the first coroutine that this run has dropped so far; empty where all were awaited."""
    dropped = _DROPPED.get()
    return "" if dropped is None else dropped.first


class _Noting:
    """Tells of them as before, but of those of a run, which are noted: whatever an author does with warnings."""

    def __init__(self, before: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        self._before = before

    def __call__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Take a coroutine that is dropped, as CPython calls this."""
        dropped = _DROPPED.get()
        if dropped is None or not dropped.open or _COLLECTOR.works:
            self._before(coroutine)
        elif not dropped.first:
            frame = sys._getframe(1)  # noqa: SLF001 - its documented name: who dropped it
            path = Path(frame.f_code.co_filename)
            place = f"{path.parent.name}/{path.name}:{frame.f_lineno}"
            name = getattr(coroutine, "__qualname__", "")
            dropped.first = f"coroutine {name!r} was never awaited: {place}"


# CPython looks it up at each call. The warning that it makes would obey filters, also those of an author's libraries.
warnings._warn_unawaited_coroutine = _Noting(warnings._warn_unawaited_coroutine)  # type: ignore[attr-defined]  # noqa: SLF001
