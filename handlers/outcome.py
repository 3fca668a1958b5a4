"""What a handler returns. Returning nothing means `Done`; an exception means `Retry()`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MAX_RETRY_AFTER_SECONDS = 900.0
"""The longest pause a handler may ask for: meanwhile its partition is not committed past the event."""
MAX_REASON_CHARACTERS = 500
"""A longer reason is cut: it travels in a header."""


@dataclass(frozen=True)
class Done:
    """The event has had its effect, or needs none."""


@dataclass(frozen=True)
class Retry:
    """Try the event again later. The run counts as an attempt of the agent's `RetryPolicy`.

    Attributes:
        after: how long to wait, a timedelta or seconds, at most 15 minutes. None: the policy decides.
    """

    after: timedelta | float | None = None

    def __post_init__(self) -> None:
        """Refuse a pause out of bounds."""
        seconds = self.seconds
        if seconds is not None and not 0 <= seconds <= MAX_RETRY_AFTER_SECONDS:
            raise ValueError(f"Retry(after=...) must be 0 to {MAX_RETRY_AFTER_SECONDS:.0f} seconds")

    @property
    def seconds(self) -> float | None:
        """The pause in seconds, if one was asked for."""
        return self.after.total_seconds() if isinstance(self.after, timedelta) else self.after


@dataclass(frozen=True)
class Reject:
    """Give the event up at once: it becomes a dead letter.

    Attributes:
        reason: why, in one line without personal data: operators see it. Cut at 500 characters.
    """

    reason: str


Outcome = Done | Retry | Reject
