"""Coroutines that a handler has made and nobody awaited: what they were to do has not been done.

Python tells of one when it is dropped, by a warning, in the context of whoever dropped it. Here that becomes a failed
run, because a statement without `await` would else count as done. One that the collector of garbage finds belongs to
nobody any more: it stays a warning.
"""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

_MESSAGE = re.compile(r"coroutine '.*' was never awaited")


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
    if not isinstance(warnings.showwarning, _Noting):
        # `pytest` and others put back what was there before.
        warnings.filterwarnings("always", _MESSAGE.pattern, RuntimeWarning)
        warnings.showwarning = _Noting(warnings.showwarning)
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
    """Shows warnings as before, but those of a run, which are noted."""

    def __init__(self, before: Callable[..., object]) -> None:
        self._before = before

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Take a warning, as `warnings.showwarning` does."""
        dropped, text = _DROPPED.get(), str(message)
        if dropped is None or not dropped.open or _COLLECTOR.works or not _MESSAGE.fullmatch(text):
            self._before(message, category, filename, lineno, file, line)
        elif not dropped.first:
            path = Path(filename)
            dropped.first = f"{text}: {path.parent.name}/{path.name}:{lineno}"
