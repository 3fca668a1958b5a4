"""How often and how long a call to Calendly is tried."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class CallRetries:
    """How often and how long a call is tried. Waits double and carry jitter.

    Attributes:
        attempts: tries, including the first.
        first_wait_seconds: wait before the second try; also the largest jitter.
        max_wait_seconds: the longest wait between two tries; a 429 that asks for more fails at once.
        least_limited_seconds: the shortest wait after a 429: Calendly says whole seconds, so 0 may be nearly one.
        answer_seconds: limit of one try, from connecting to the last octet of the answer.
    """

    attempts: int = 4
    first_wait_seconds: float = 0.25
    max_wait_seconds: float = 5.0
    least_limited_seconds: float = 1.0
    answer_seconds: float = 20.0

    def wait_out(self, asked: float) -> float:
        """Return how long to wait where a 429 asks for so many seconds; those who wait come back at different times."""
        return max(asked, self.least_limited_seconds) + random.uniform(0, self.first_wait_seconds)  # noqa: S311 - spreads calls, hides nothing
