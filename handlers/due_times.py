"""When scheduled work is due: at times of the clock, or at moments of a booking. Pure.

Times of the clock are read in a time zone and compared in UTC. cronsim knows daylight saving as cron does: a local time
that does not exist is due right after the gap, one that occurs twice is due the first time. A minute or an hour that is
written as `*` goes by the time that passes, instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from slotwire.ingest.foundation.errors import ConfigurationError

Missed: TypeAlias = Literal["catch_up", "skip"]
MomentKind: TypeAlias = Literal["before_start", "after_start", "after_end"]

MISSED_AFTER = timedelta(seconds=60)
"""What is found due that much too late was missed: nobody was there to fire it."""
MIN_EVERY = timedelta(seconds=1)
MAX_EVERY = timedelta(days=366)
MAX_CRON = 200
"""Characters of a cron string."""
MAX_AWAY = timedelta(days=366)
"""How far a moment may be from the start or the end of its meeting."""
MAX_COUNTED = 1_000
"""Missed firings that are counted one by one."""
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_LOOK_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=31), timedelta(days=366), timedelta(days=9 * 366))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_THE_MACHINE = re.compile(r"localtime|posixrules|Factory|(?:posix|right)/.*")
"""Zones that differ from machine to machine, or count leap seconds, which nobody else does."""


@dataclass(frozen=True)
class CronTimes:
    """Times that a cron string names, in a time zone.

    Attributes:
        expression: minute, hour, day of month, month, day of week.
        zone: the time zone.
    """

    expression: str
    zone: ZoneInfo

    def __str__(self) -> str:
        """Return it as operators see it."""
        return f"cron {self.expression} {self.zone.key}"

    def after(self, time: datetime) -> datetime:
        """Return the first time that is later."""
        # The second pass through an hour that occurs twice begins with times that were due in the first.
        for found in CronSim(self.expression, time.astimezone(self.zone)):
            if (due := found.astimezone(UTC)) > time:
                return due
        raise AssertionError  # `cron_times` has seen one

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the latest time that is later than one and not later than another; None if there is none."""
        for look_back in _LOOK_BACK:
            begin = max(after, until - look_back)
            found = None
            due = self.after(begin)
            while due <= until:
                found, due = due, self.after(due)
            if found is not None or begin == after:
                return found
        return None


@dataclass(frozen=True)
class IntervalTimes:
    """Times an interval apart, counted from 1970-01-01 00:00 UTC on: the same whoever counts."""

    interval: timedelta

    def __str__(self) -> str:
        """Return it as operators see it."""
        return f"every {in_words(self.interval)}"

    def after(self, time: datetime) -> datetime:
        """Return the first time that is later."""
        return self._at(time) + self.interval

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the latest time that is later than one and not later than another; None if there is none."""
        found = self._at(until)
        return found if found > after else None

    def _at(self, time: datetime) -> datetime:
        return time - (time - _EPOCH) % self.interval


def in_words(time: timedelta) -> str:
    """Write a time as people say it: `1 day 30 min`."""
    minutes, seconds = divmod(time.seconds, 60)
    parts = ((time.days, "day" if time.days == 1 else "days"), (minutes // 60, "h"), (minutes % 60, "min"))
    said = [f"{number} {unit}" for number, unit in parts if number]
    if seconds or time.microseconds:
        said.append(f"{seconds + time.microseconds / 1_000_000:g} s")
    return " ".join(said)


ClockTimes: TypeAlias = CronTimes | IntervalTimes


@dataclass(frozen=True)
class MomentTimes:
    """Moments of bookings: so long before the start, after the start or after the end of each meeting.

    Attributes:
        kind: which of them.
        away: how long.
    """

    kind: MomentKind
    away: timedelta

    def __str__(self) -> str:
        """Return it as operators see it."""
        when, what = self.kind.split("_")
        return f"{in_words(self.away)} {when} {what}" if self.away else f"at {what}"

    @property
    def of_end(self) -> bool:
        """Whether it is counted from the meeting's end."""
        return self.kind == "after_end"

    @property
    def shift(self) -> timedelta:
        """Where it is, from the start or the end of the meeting."""
        return -self.away if self.kind == "before_start" else self.away


Times: TypeAlias = ClockTimes | MomentTimes


def times_of_day(time: str, timezone: str) -> CronTimes:
    """Read a time of day, `07:00`.

    Raises:
        ConfigurationError: it is none, or there is no such time zone.
    """
    found = _TIME_OF_DAY.fullmatch(_text(time))
    if found is None:
        raise ConfigurationError(
            f"{_shown(time)} is no time of day", remedy='Write hours and minutes: @agent.at("07:00", timezone=…).'
        )
    return CronTimes(f"{int(found[2])} {int(found[1])} * * *", zone_of(timezone))


def cron_times(expression: str, timezone: str) -> CronTimes:
    """Read a cron string of five fields.

    Raises:
        ConfigurationError: it is none, it names no time, it is too long, or there is no such time zone.
    """
    zone = zone_of(timezone)
    fields = _text(expression).split()
    if len(fields) != 5:  # with six the first one would count seconds
        raise _no_cron(expression, "it has not five fields")
    written = " ".join(fields)
    if len(written) > MAX_CRON:
        raise _no_cron(expression, f"it has more than {MAX_CRON} characters")
    try:
        next(CronSim(written, _EPOCH.astimezone(zone)))
    except (CronSimError, StopIteration) as error:
        raise _no_cron(expression, str(error) or "it names no time") from error
    return CronTimes(written, zone)


def _no_cron(expression: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the cron string {_shown(expression)} cannot be used: {why}",
        remedy="Write minute, hour, day of month, month and day of week: 0 7 * * 1-5.",
    )


def _text(value: object) -> str:
    """Return a text as it is; what is none is as little a time as an empty one."""
    return value if isinstance(value, str) else ""


def _shown(value: object) -> str:
    """Show what an author wrote; a long text by its beginning."""
    shown = repr(value)
    return shown if len(shown) <= MAX_CRON else f"{shown[:MAX_CRON]}…"


def interval_times(interval: timedelta) -> IntervalTimes:
    """Read an interval.

    Raises:
        ConfigurationError: it is too short or too long, or no timedelta.
    """
    if not _is_between(MIN_EVERY, interval, MAX_EVERY):
        raise ConfigurationError(
            f"an interval of {_shown(interval)} cannot be used",
            remedy=f"Give a timedelta of {MIN_EVERY.seconds} second to {MAX_EVERY.days} days: timedelta(minutes=15).",
        )
    return IntervalTimes(interval)


def _is_between(least: timedelta, value: object, most: timedelta) -> bool:
    return isinstance(value, timedelta) and least <= value <= most


def moment_times(kind: MomentKind, away: timedelta) -> MomentTimes:
    """Read a moment of bookings.

    Raises:
        ConfigurationError: it is too far from its meeting, before it or no timedelta.
    """
    if not _is_between(timedelta(0), away, MAX_AWAY):
        raise ConfigurationError(
            f"{kind}={_shown(away)} cannot be used",
            remedy=f"Give a timedelta of 0 to {MAX_AWAY.days} days: {kind}=timedelta(hours=1).",
        )
    return MomentTimes(kind, away)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name.

    Raises:
        ConfigurationError: there is none, or it is not the same on every machine.
    """
    try:
        found = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise _no_zone(name, "is no time zone") from error
    if _OF_THE_MACHINE.fullmatch(name):
        raise _no_zone(name, "is not the same time zone on every machine")
    return found


def _no_zone(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{_shown(name)} {why}", remedy='Name one of the IANA database: "Europe/Berlin", "UTC".')


def count_between(times: ClockTimes, after: datetime, before: datetime) -> int:
    """Count the times later than one and earlier than another, `MAX_COUNTED` at most."""
    count, due = 0, times.after(after)
    while due < before and count < MAX_COUNTED:
        count, due = count + 1, times.after(due)
    return count
