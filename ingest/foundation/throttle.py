"""Log lines that strangers can cause: a few, with a count of the rest."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

LOG_SECONDS = 1.0
"""The shortest time between two log lines of one kind that a stranger or a tenant can cause."""


class Throttle:
    """Lets through one log line for each key and second, so that strangers cannot fill the disk.

    Keys come from short fixed lists, like the labels of metrics, which count everything.
    """

    def __init__(self, seconds: float = LOG_SECONDS, timer: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._timer = timer
        self._said: dict[str, tuple[float, int]] = {}

    def held_back(self, key: str) -> int | None:
        """Return how many lines were held back since the last one for this key; None holds this one back too."""
        now = self._timer()
        said = self._said.get(key)
        if said is not None and now - said[0] < self._seconds:
            self._said[key] = (said[0], said[1] + 1)
            return None
        self._said[key] = (now, 0)
        return said[1] if said is not None else 0
