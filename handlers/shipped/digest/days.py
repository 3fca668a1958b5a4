"""Which moment a digest is due at, and which stretch of time a day is, in a time zone with its changes of clocks. Pure.

A day begins at its first instant. Where clocks are put forward over midnight, that is the instant of the change; where
a local time comes twice, the first one counts.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def latest_moment(now: datetime, at: time, zone: ZoneInfo) -> datetime:
    """Return the latest moment, in UTC, at which clocks in `zone` showed `at`, up to `now`.

    Where clocks skip `at` on a day, that day's moment is as long after the day's last change as `at` would have been.
    """
    today = now.astimezone(zone).date()
    moments = (_instant(today + timedelta(days=ahead), at, zone) for ahead in (1, 0, -1))
    return next(moment for moment in moments if moment <= now)


def span_of(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first instant of a day and that of the next one, in UTC."""
    return _instant(day, time.min, zone), _instant(day + timedelta(days=1), time.min, zone)


def changes_clocks(day: date, zone: ZoneInfo) -> bool:
    """Say whether clocks are changed on a day."""
    start, end = span_of(day, zone)
    return end - start != timedelta(days=1)


def offset_of(instant: datetime) -> str:
    """Write the offset of an aware time, for example `UTC+5:30`."""
    minutes = round((instant.utcoffset() or timedelta()).total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    return f"UTC{sign}{hours}" + (f":{rest:02}" if rest else "")


def _instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, tzinfo=zone).astimezone(UTC)
