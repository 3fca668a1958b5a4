"""A user's meeting limits: how many meetings they take in a day, a week and a month.

Source: docs/reference/calendly.md, "REST".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from slotwire.ingest.simulator.bookings import Bookings, PageOrder, ScheduledEventFilter
from slotwire.ingest.simulator.model import Json

KIND = "user_meeting_limits"
MAX_MEETINGS = 10_000
_SPAN = timedelta(days=32)
PERIODS: Mapping[str, Callable[[datetime], object]] = MappingProxyType(
    {
        "daily_limit": lambda at: at.date(),
        "weekly_limit": lambda at: at.isocalendar()[:2],
        "monthly_limit": lambda at: (at.year, at.month),
    }
)
"""What each limit counts by."""


def limits_of(bookings: Bookings, host: str) -> Json:
    """Return a user's limits; null is none."""
    return bookings.shelf.get(KIND, host) or dict.fromkeys(PERIODS)


def reached(bookings: Bookings, host: str) -> Callable[[datetime], bool]:
    """Return whether a user's limits leave no meeting more at a time."""
    limits = {name: value for name, value in limits_of(bookings, host).items() if isinstance(value, int)}

    def full(at: datetime) -> bool:
        if not limits:
            return False
        around = ScheduledEventFilter(None, (host,), status="active", min_start=at - _SPAN, max_start=at + _SPAN)
        starts = [each.start for each in bookings.events(around, PageOrder(MAX_MEETINGS))]
        return any(
            sum(PERIODS[name](start) == PERIODS[name](at) for start in starts) >= most for name, most in limits.items()
        )

    return full
