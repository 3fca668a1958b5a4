"""What a handler answers. Returning nothing means `Done`; an exception means `Retry` under the agent's policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MAX_RETRY_AFTER_SECONDS = 900.0
"""The longest pause a handler may ask for: the event's partition cannot be committed past it meanwhile."""
MAX_REASON_CHARACTERS = 500
"""A longer reason is cut: it travels in a header."""


@dataclass(frozen=True)
class Done:
    """The event has had its effect, or needs none."""


@dataclass(frozen=True)
class Retry:
    """Not now: try again. It counts as an attempt of the agent's policy.

    Attributes:
        after: how long to wait; the policy decides when it is None. 15 minutes at the most.
    """

    after: timedelta | float | None = None

    def __post_init__(self) -> None:
        """Refuse a pause that cannot be waited for."""
        seconds = self.seconds
        if seconds is not None and not 0 <= seconds <= MAX_RETRY_AFTER_SECONDS:
            raise ValueError(f"Retry(after=...) must be 0 to {MAX_RETRY_AFTER_SECONDS:.0f} seconds")

    @property
    def seconds(self) -> float | None:
        """The pause in seconds, if one was asked for."""
        return self.after.total_seconds() if isinstance(self.after, timedelta) else self.after


@dataclass(frozen=True)
class Reject:
    """Never: give the event up at once; it goes to the dead letters.

    Attributes:
        reason: why, in a line without personal data: it is shown to operators. Cut at 500 characters.
    """

    reason: str


Outcome = Done | Retry | Reject
