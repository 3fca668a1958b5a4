"""How usual an organization's silence is, by the hours of the week in which it had webhooks lately. Pure.

An hour of the week (of 168, in UTC) in which `n` of the last `W` weeks had a webhook is taken to have one with a
probability of n / (W + 1), so that even an hour that always had one may once have none. A silence is as usual as it is
that all its hours stay without one. Counting hours, and not webhooks, keeps a burst of bookings from counting as many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

WEEK_HOURS = 168
WEEKS = 4
"""How many weeks back are looked at."""
KNOWN_WEEKS = 2
"""How many weeks must be known before anything is said."""
HOUR = timedelta(hours=1)
WEEK = timedelta(weeks=1)


def hour_of_week(time: datetime) -> int:
    """Return the hour of the week, 0 for Monday's first in UTC."""
    return time.weekday() * 24 + time.hour


@dataclass(frozen=True, slots=True)
class WeekProfile:
    """What an organization's last weeks let expect.

    Attributes:
        sums: for each hour of the week the sum of -ln(1 - p) of the hours before it in the week; at the end of all.
    """

    sums: tuple[float, ...]

    @classmethod
    def of(cls, active_weeks: Iterable[tuple[int, int]], weeks: int) -> WeekProfile:
        """Make a profile.

        Args:
            active_weeks: pairs of an hour of the week and the number of weeks that had a webhook in it.
            weeks: how many weeks were looked at.
        """
        counts = dict(active_weeks)
        shares = (min(counts.get(hour, 0), weeks) / (weeks + 1) for hour in range(WEEK_HOURS))
        return cls((0.0, *accumulate(-math.log1p(-share) for share in shares)))

    def probability(self, since: datetime, now: datetime) -> float:
        """Return how probable it is that no webhook comes between two times in UTC; 1 if the first is not earlier."""
        if now <= since:
            return 1.0
        weeks, rest = divmod(now - since, WEEK)
        surprise = weeks * self.sums[-1] + self._until(since + rest) - self._until(since)
        if self._place(since + rest) < self._place(since):
            surprise += self.sums[-1]
        return math.exp(-surprise)

    @staticmethod
    def _place(time: datetime) -> float:
        """Return how many hours of its week have passed."""
        return hour_of_week(time) + (time.minute * 60 + time.second + time.microsecond / 1e6) / 3600

    def _until(self, time: datetime) -> float:
        place = self._place(time)
        hour = int(place)
        return self.sums[hour] + (place - hour) * (self.sums[hour + 1] - self.sums[hour])
