"""`@agent.at`, `@agent.every` and `@agent.cron`: work that is due at times of the clock, or at moments of a booking."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from slotwire.handlers.due_times import (
    Missed,
    MomentKind,
    MomentTimes,
    Times,
    cron_times,
    interval_times,
    moment_times,
    times_of_day,
)
from slotwire.handlers.firings import TYPE, Firing, Moment, firing_of
from slotwire.handlers.outcome import Outcome
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.envelope import Event

if TYPE_CHECKING:
    from slotwire.handlers.context import Context

SCHEDULE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""The form of a schedule's name: by default that of its function."""
MAX_SCHEDULES = 100
"""Works of an agent: what is due of each is looked up with every look."""
_DAILY = '@agent.at("07:00", timezone="Europe/Berlin") above `async def f(firing: Firing, ctx: Context)`'
_MOMENT = "@agent.at(before_start=timedelta(hours=1)) above `async def f(moment: Moment, ctx: Context)`"

F = TypeVar("F", bound=Firing)
R = TypeVar("R", bound=Outcome | None)


class ScheduleRegistration(Protocol[F]):
    """Takes the function below `@agent.at(…)`, and returns it as it is."""

    def __call__(
        self, work: Callable[[F, Context], Coroutine[Any, Any, R]], /
    ) -> Callable[[F, Context], Coroutine[Any, Any, R]]:
        """Register the function."""
        ...


@dataclass(frozen=True)
class Schedule:
    """Scheduled work of an agent.

    Attributes:
        name: of the work.
        times: when it is due.
        missed: whether what nobody fired in time is done late, or not at all.
    """

    name: str
    times: Times
    missed: Missed

    @property
    def type(self) -> str:
        """The type of its firings."""
        return TYPE + self.name


class Schedules:
    """The scheduled work of an agent.

    Attributes:
        name: the agent's name.
    """

    name: str

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}
        self._handlers: dict[str, Callable[[Event[Any], Context], Coroutine[Any, Any, Outcome | None]]] = {}

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """The scheduled work by its name."""
        return MappingProxyType(self._schedules)

    @overload
    def at(
        self, time: str, /, *, timezone: str, missed: Missed = "catch_up", name: str | None = None
    ) -> ScheduleRegistration[Firing]: ...
    @overload
    def at(
        self, *, before_start: timedelta, missed: Missed = "catch_up", name: str | None = None
    ) -> ScheduleRegistration[Moment]: ...
    @overload
    def at(
        self, *, after_start: timedelta, missed: Missed = "catch_up", name: str | None = None
    ) -> ScheduleRegistration[Moment]: ...
    @overload
    def at(
        self, *, after_end: timedelta, missed: Missed = "catch_up", name: str | None = None
    ) -> ScheduleRegistration[Moment]: ...
    def at(
        self,
        *time: str,
        timezone: str | None = None,
        before_start: timedelta | None = None,
        after_start: timedelta | None = None,
        after_end: timedelta | None = None,
        missed: Missed = "catch_up",
        name: str | None = None,
    ) -> ScheduleRegistration[Any]:
        """Run the function below each day at a time, or at a moment of each booking.

            @agent.at("07:00", timezone="Europe/Berlin")
            async def report(firing: Firing, ctx: Context) -> None: ...

            @agent.at(before_start=timedelta(hours=1), missed="skip")
            async def remind(moment: Moment, ctx: Context) -> None: ...

        At a time of the clock it runs once for each organization; a local time that does not exist is due right after
        the gap, one that occurs twice is due the first time. A moment belongs to a booking that is active then:
        a reschedule moves it, a cancellation drops it. `docs/howto/schedule-work.md` says the rest.

        Args:
            time: hours and minutes, `07:00`.
            timezone: of `time`, by its IANA name.
            before_start: how long before each meeting's start.
            after_start: how long after its start.
            after_end: how long after its end.
            missed: what becomes of what was due while no process of the agent was there: `catch_up` or `skip`.
            name: of the work, once in an agent; default: the function's name. A new name is new work.

        Raises:
            ConfigurationError: an argument is out of bounds, or the function cannot be used.
        """
        moments: tuple[tuple[MomentKind, timedelta | None], ...] = (
            ("before_start", before_start),
            ("after_start", after_start),
            ("after_end", after_end),
        )
        given: list[tuple[MomentKind, timedelta]] = [(kind, away) for kind, away in moments if away is not None]
        if len(time) == 1 and timezone is not None and not given:
            return self._registration(times_of_day(time[0], timezone), missed, name)
        if not time and timezone is None and len(given) == 1:
            return self._registration(moment_times(*given[0]), missed, name)
        raise ConfigurationError(
            f"agent {self.name}: @agent.at() takes a time and its zone, or one moment of a booking",
            remedy=f"Write {_DAILY}, or {_MOMENT}.",
        )

    def every(
        self, interval: timedelta, /, *, missed: Missed = "catch_up", name: str | None = None
    ) -> ScheduleRegistration[Firing]:
        """Run the function below at an interval, counted from 1970-01-01 00:00 UTC on; see `at`.

        Args:
            interval: a second or longer.
            missed: see `at`.
            name: see `at`.
        """
        return self._registration(interval_times(interval), missed, name)

    def cron(
        self, expression: str, /, *, timezone: str, missed: Missed = "catch_up", name: str | None = None
    ) -> ScheduleRegistration[Firing]:
        """Run the function below at the times that a cron string names; see `at`.

        Args:
            expression: minute, hour, day of month, month, day of week: `0 7 * * 1-5`.
            timezone: by its IANA name.
            missed: see `at`.
            name: see `at`.
        """
        return self._registration(cron_times(expression, timezone), missed, name)

    def _registration(self, times: Times, missed: Missed, name: str | None) -> ScheduleRegistration[Any]:
        if missed not in {"catch_up", "skip"}:
            raise ConfigurationError(
                f"agent {self.name}: missed={missed!r} is unknown", remedy='Write "catch_up" or "skip".'
            )

        def register(work: Callable[[Any, Context], Coroutine[Any, Any, R]], /) -> Any:
            self._register(Schedule(self._checked_name(work, name), times, missed), work)
            return work

        return register

    def _checked_name(self, work: object, given: str | None) -> str:
        name = given if given is not None else getattr(work, "__name__", "")
        if not inspect.iscoroutinefunction(work) or len(inspect.signature(work).parameters) != 2:
            raise ConfigurationError(
                f"agent {self.name}: {name or work!r} is not an `async def` with two parameters",
                remedy=f"Write {_DAILY}.",
            )
        if not SCHEDULE_NAME.fullmatch(name):
            raise ConfigurationError(
                f"agent {self.name}: {name!r} cannot be the name of scheduled work",
                remedy="Use up to 63 lower-case letters, digits, dashes and underscores, a letter first: name=…",
            )
        if name in self._schedules:
            raise ConfigurationError(
                f"agent {self.name} has two works called {name}", remedy="Give one of them another name: name=…"
            )
        if len(self._schedules) >= MAX_SCHEDULES:
            raise ConfigurationError(
                f"agent {self.name} has more than {MAX_SCHEDULES} scheduled works",
                remedy="Make one of several that are due alike, or another agent.",
            )
        return name

    def _register(
        self, schedule: Schedule, work: Callable[[Any, Context], Coroutine[Any, Any, Outcome | None]]
    ) -> None:
        of_booking = isinstance(schedule.times, MomentTimes)

        @functools.wraps(work)
        async def fired(event: Event[Any], ctx: Context) -> Outcome | None:
            firing = firing_of(event)
            if of_booking and not await ctx.is_current(firing):
                return None
            return await work(firing, ctx)

        self._schedules[schedule.name] = schedule
        self._handlers[schedule.type] = fired
