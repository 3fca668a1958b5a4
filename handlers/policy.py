"""Where a new agent begins, when it tries an event again, when it gives it up, and when it stops. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Start: TypeAlias = Literal["earliest", "latest"] | datetime
"""Where a new agent begins: at the oldest record, at what is published from now on, or at a time with a zone."""

MAX_ATTEMPTS = 100
MAX_PAUSE_SECONDS = 900.0


@dataclass(frozen=True)
class RetryPolicy:
    """When a handler that failed is tried again.

    The n-th pause is `first_seconds * factor ** (n - 1)`, at most `longest_seconds`, changed at random by up to
    `jitter` of itself in either direction, so that events that failed together are not tried again together.

    Attributes:
        attempts: runs before the event is given up, the first included; 1 to 100.
        first_seconds: the pause after the first failure.
        factor: how much longer each pause is than the one before.
        longest_seconds: no pause is longer, jitter included; at most 900.
        jitter: the largest random change, as a share of the pause, 0 to 1.
    """

    attempts: int = 8
    first_seconds: float = 0.5
    factor: float = 2.0
    longest_seconds: float = 60.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values out of bounds."""
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts must be 1 to {MAX_ATTEMPTS}")
        if not 0 < self.first_seconds <= self.longest_seconds <= MAX_PAUSE_SECONDS:
            raise ValueError(f"0 < first_seconds <= longest_seconds <= {MAX_PAUSE_SECONDS:.0f} must hold")
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError("factor must be at least 1 and jitter 0 to 1")

    def pause(self, failures: int, draw: float) -> float:
        """Return the seconds to wait after so many failures.

        Args:
            failures: how many runs have failed, at least 1.
            draw: a random number, 0 to 1.
        """
        # The exponent is bounded, or a hundred attempts would overflow a float.
        plain = min(self.first_seconds * self.factor ** min(failures - 1, 64), self.longest_seconds)
        return min(plain * (1 + self.jitter * (2 * draw - 1)), self.longest_seconds)


@dataclass(frozen=True)
class GiveUpLimit:
    """How many events an agent may give up before it stops, so that a bad deploy does not drain a topic.

    Attributes:
        run: dead letters in a row; one more stops the agent.
        window: the number of latest settled events that `share` refers to.
        share: the share of the window that may be dead letters, 0 to 1; one more stops the agent.
    """

    run: int = 20
    window: int = 200
    share: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values out of bounds."""
        if self.run < 1 or not 0 < self.share <= 1 or self.share * self.window < 1:
            raise ValueError("run must be at least 1, share above 0 and at most 1, share * window at least 1")


class GiveUpCounter:
    """Counts an agent's dead letters against its limit."""

    def __init__(self, limit: GiveUpLimit) -> None:
        self._limit = limit
        self._run = 0
        self._given_up: deque[bool] = deque([False] * limit.window, maxlen=limit.window)

    def succeeded(self) -> None:
        """Count an event that is done."""
        self._run = 0
        self._given_up.append(False)

    def may_give_up(self) -> bool:
        """Count one more dead letter if the limit has room for it, and say whether it has."""
        limit = self._limit
        in_window = sum(self._given_up) - self._given_up[0] + 1
        if self._run >= limit.run or in_window > limit.share * limit.window:
            return False
        self._run += 1
        self._given_up.append(True)
        return True
