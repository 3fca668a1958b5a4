"""When scheduled work is due: across daylight saving in Europe, America and on Lord Howe, and where there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from slotwire.handlers import Agent, Context, Firing, Moment
from slotwire.handlers.due_times import (
    MAX_AWAY,
    MAX_COUNTED,
    MAX_CRON,
    MAX_EVERY,
    ClockTimes,
    count_between,
    cron_times,
    interval_times,
    moment_times,
    times_of_day,
)
from slotwire.handlers.schedules import MAX_SCHEDULES, Schedule
from slotwire.ingest.foundation.errors import ConfigurationError

AT_LIMIT = "17" + ",7" * ((MAX_CRON - len("17 7 * * *")) // 2)
"""As many minutes as a cron string may have."""
BERLIN, NEW_YORK, LORD_HOWE, PHOENIX = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Phoenix"


def utc(text: str) -> datetime:
    """Read a time of 2026 in UTC: `03-29 00:30`."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def anyhow(name: str) -> Any:
    """Make an agent that a type checker lets be called anyhow."""
    return Agent(name)


def due_between(times: ClockTimes, after: datetime, until: datetime) -> list[datetime]:
    """All times of a span, in order."""
    found, due = [], times.after(after)
    while due <= until:
        found.append(due)
        due = times.after(due)
    return found


SAVING = [
    # Europe: on 29 March 02:00 becomes 03:00 (01:00 UTC), on 25 October 03:00 becomes 02:00 (01:00 UTC).
    ("07:00", BERLIN, "03-28 12:00", "03-30 12:00", ["03-29 05:00", "03-30 05:00"]),
    ("02:30", BERLIN, "03-27 12:00", "03-30 12:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
    ("02:30", BERLIN, "10-24 12:00", "10-26 12:00", ["10-25 00:30", "10-26 01:30"]),
    ("03:00", BERLIN, "03-28 12:00", "03-29 12:00", ["03-29 01:00"]),
    # America: on 8 March 02:00 becomes 03:00 (07:00 UTC), on 1 November 02:00 becomes 01:00 (06:00 UTC).
    ("02:30", NEW_YORK, "03-07 12:00", "03-09 12:00", ["03-08 07:00", "03-09 06:30"]),
    ("01:30", NEW_YORK, "10-31 12:00", "11-02 12:00", ["11-01 05:30", "11-02 06:30"]),
    # Lord Howe: on 5 April 02:00 becomes 01:30, on 4 October 02:00 becomes 02:30 (both 15:00/15:30 UTC before).
    ("01:45", LORD_HOWE, "04-03 16:00", "04-05 16:00", ["04-04 14:45", "04-05 15:15"]),
    ("02:15", LORD_HOWE, "10-02 16:00", "10-04 16:00", ["10-03 15:30", "10-04 15:15"]),
    # Arizona has none.
    ("02:30", PHOENIX, "03-07 12:00", "03-09 12:00", ["03-08 09:30", "03-09 09:30"]),
    ("01:30", PHOENIX, "10-31 12:00", "11-02 12:00", ["11-01 08:30", "11-02 08:30"]),
]


@pytest.mark.parametrize(("time", "zone", "after", "until", "due"), SAVING)
def test_a_local_time_is_due_once_a_day(time: str, zone: str, after: str, until: str, due: list[str]) -> None:
    """One that does not exist is due right after the gap, one that occurs twice the first time, whoever looks when.

    From every minute of the span on the next one is the same: a process that begins in the gap, or in the hour that
    occurs twice, fires nothing again.
    """
    times, wanted = times_of_day(time, zone), [utc(each) for each in due]
    assert due_between(times, utc(after), utc(until)) == wanted
    look = utc(after)
    while look < wanted[-1]:
        assert times.after(look) == next(each for each in wanted if each > look)
        reached = [each for each in wanted if each <= look]
        assert times.latest(utc(after), look) == (reached[-1] if reached else None)
        look += timedelta(minutes=15)


def test_two_times_in_one_gap_are_one() -> None:
    """Both would be due right after it; the work is done once. What `*` stands for goes by the time that passes."""
    gap = (utc("03-29 00:00"), utc("03-29 02:00"))
    assert due_between(cron_times("15,45 2 * * *", BERLIN), *gap) == [utc("03-29 01:00")]
    twice = due_between(cron_times("*/30 * * * *", BERLIN), utc("10-24 23:59"), utc("10-25 02:00"))
    assert twice == [utc("10-25 00:00") + timedelta(minutes=30 * n) for n in range(5)]


def test_cron_strings_and_intervals() -> None:
    """Days of the week are local days; an interval counts from 1970 on, so every process comes to the same times."""
    weekdays = cron_times("0  7 * * 1-5", BERLIN)
    assert str(weekdays) == "cron 0 7 * * 1-5 Europe/Berlin"
    assert weekdays.after(utc("11-27 06:00")) == utc("11-30 06:00")
    assert weekdays.latest(utc("01-01 00:00"), utc("11-29 23:00")) == utc("11-27 06:00")
    yearly = cron_times("0 0 29 2 *", "UTC")
    assert yearly.latest(datetime(2020, 1, 1, tzinfo=UTC), utc("11-27 06:00")) == datetime(2024, 2, 29, tzinfo=UTC)
    quarter = interval_times(timedelta(minutes=15))
    assert quarter.after(utc("11-27 06:15")) == utc("11-27 06:30")
    assert quarter.latest(utc("11-27 06:14"), utc("11-27 06:29")) == utc("11-27 06:15")
    assert quarter.latest(utc("11-27 06:15"), utc("11-27 06:29")) is None
    assert count_between(quarter, utc("11-27 06:00"), utc("11-27 07:00")) == 3
    assert count_between(interval_times(timedelta(seconds=1)), utc("01-01 00:00"), utc("11-27 07:00")) == MAX_COUNTED


@pytest.mark.parametrize(
    "declare",
    [
        lambda: times_of_day("7:00", BERLIN),
        lambda: times_of_day("24:00", BERLIN),
        lambda: times_of_day("07:00", "Berlin"),
        lambda: cron_times("0 7 * *", BERLIN),
        lambda: cron_times("0 0 7 * * *", BERLIN),
        lambda: cron_times("0 0 30 2 *", BERLIN),
        lambda: cron_times("61 0 * * *", BERLIN),
        lambda: cron_times("@daily", BERLIN),
        lambda: cron_times("0 7 * * 5-1", BERLIN),
        lambda: cron_times("0 7 * * 1\x00", BERLIN),
        lambda: cron_times(f"{AT_LIMIT},7 7 * * *", BERLIN),
        lambda: cron_times(f"{'9' * 5_000} 7 * * *", BERLIN),
        lambda: cron_times(cast("str", None), BERLIN),
        lambda: cron_times("0 7 * * *", cast("str", 1)),
        lambda: cron_times("0 7 * * *", "localtime"),
        lambda: cron_times("0 7 * * *", "right/Europe/Berlin"),
        lambda: cron_times("0 7 * * *", "Europe/Berlin\x00"),
        lambda: cron_times("0 7 * * *", "../" * 1_000),
        lambda: times_of_day(cast("str", 7), BERLIN),
        lambda: interval_times(cast("timedelta", 5)),
        lambda: interval_times(timedelta(microseconds=1)),
        lambda: interval_times(-timedelta(days=1)),
        lambda: interval_times(MAX_EVERY + timedelta(seconds=1)),
        lambda: interval_times(timedelta.max),
        lambda: moment_times("after_start", cast("timedelta", 0)),
        lambda: interval_times(timedelta(milliseconds=999)),
        lambda: moment_times("after_end", timedelta(seconds=-1)),
        lambda: moment_times("after_end", MAX_AWAY + timedelta(seconds=1)),
        lambda: anyhow("a").at("07:00"),
        lambda: anyhow("a").at(before_start=timedelta(1), after_end=timedelta(1)),
        lambda: anyhow("a").every(timedelta(1), missed="later"),
        lambda: Agent("a").every(timedelta(1))(cast("Any", print)),
        lambda: Agent("a").every(timedelta(1), name="No Name")(_work),
    ],
)
def test_what_cannot_be_due_is_refused_with_a_remedy(declare: Any) -> None:
    """Each limit is refused where it is declared, in words that say what to write instead."""
    with pytest.raises(ConfigurationError) as refused:
        declare()
    assert refused.value.remedy
    assert len(str(refused.value)) < 2 * MAX_CRON
    interval_times(timedelta(seconds=1))
    interval_times(MAX_EVERY)
    moment_times("before_start", MAX_AWAY)
    assert len(cron_times(f"{AT_LIMIT} 7 * * *", BERLIN).expression) == MAX_CRON


@pytest.mark.parametrize(
    ("text", "zone", "due"),
    [
        (" 0\t7\n* * MON-FRI ", "Europe/Kyiv", "11-27 05:00"),  # a link to another name is the same zone
        ("0 7 * * 7", "Europe/Kiev", "11-29 05:00"),
        ("0 7 L * *", "UTC", "11-30 07:00"),
        ("30 6 * nov fri#4", "Etc/GMT+1", "11-27 07:30"),
    ],
)
def test_cron_strings_that_others_write_are_read(text: str, zone: str, due: str) -> None:
    """Names, Sunday as 7, the last day, the fourth Friday, any white space: from where the day begins."""
    assert cron_times(text, zone).after(utc("11-27 00:00")) == utc(due)


async def _work(firing: Firing, ctx: Context) -> None:
    """Do nothing."""


def test_an_agent_knows_its_schedules() -> None:
    """Each has its name, its times and what becomes of what was missed; a name is used once."""
    agent = Agent("report")

    @agent.at("07:00", timezone=BERLIN, missed="skip")
    async def morning(firing: Firing, ctx: Context) -> None: ...

    @agent.at(before_start=timedelta(hours=1), name="remind")
    async def moment(moment: Moment, ctx: Context) -> None: ...

    agent.every(timedelta(minutes=5))(named)
    assert list(agent.schedules) == ["morning", "remind", "named"]
    assert agent.schedules["morning"] == Schedule("morning", times_of_day("07:00", BERLIN), "skip")
    assert str(agent.schedules["remind"].times) == "1 h before start"
    assert agent.topics == ()
    with pytest.raises(ConfigurationError, match="two works called remind"):
        agent.every(timedelta(hours=1), name="remind")(_work)
    for number in range(len(agent.schedules), MAX_SCHEDULES):
        agent.every(timedelta(hours=1), name=f"work{number}")(_work)
    with pytest.raises(ConfigurationError, match="more than 100 scheduled works"):
        agent.every(timedelta(hours=1), name="one-more")(_work)


async def named(firing: Firing, ctx: Context) -> None:
    """Do nothing, under a name that a schedule may have."""


CHANGES = [
    # A day on which clocks change, from 23:30 before it on; when 02:30 is due, and how many hours the day has.
    (BERLIN, "03-28 22:30", "03-29 01:00", 23),
    (BERLIN, "10-24 21:30", "10-25 00:30", 25),
    (NEW_YORK, "03-08 04:30", "03-08 07:00", 23),
    (NEW_YORK, "11-01 03:30", "11-01 07:30", 25),
    (LORD_HOWE, "10-03 13:00", "10-03 15:30", 23.5),
    (LORD_HOWE, "04-04 12:30", "04-04 16:00", 24.5),
    (PHOENIX, "03-08 06:30", "03-08 09:30", 24),
]


@pytest.mark.parametrize(("zone", "begin", "due", "hours"), CHANGES)
def test_at_and_cron_go_by_the_wall_and_every_by_time(zone: str, begin: str, due: str, hours: float) -> None:
    """A time of the day and a cron string once, right after a gap; an hour and an interval as much as passes."""
    span = utc(begin), utc(begin) + timedelta(hours=hours)
    assert due_between(times_of_day("02:30", zone), *span) == [utc(due)]
    assert due_between(cron_times("30 2 * * *", zone), *span) == [utc(due)]
    assert len(due_between(cron_times("0 * * * *", zone), *span)) == int(hours)
    assert len(due_between(interval_times(timedelta(minutes=30)), *span)) == 2 * hours
    assert span[1].astimezone(ZoneInfo(zone)).strftime("%H:%M") == "23:30"
