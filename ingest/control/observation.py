"""What one `control` reads in Postgres for everybody's metrics: what waits, what runs out, and who is silent.

Several processes may run this. A row in the database says which of them shows what was read, so that a sum over all
counts nothing twice; when that one ends, another takes over. Whatever is not read again in time is shown no more.

    count:  the webhooks of the next deliveries, by organization and hour   (each delivery is read once, and no body)
    learn:  each organization's hours of the week, once an hour
    show:   last webhooks and how usual the silence since is; parked events, quarantine, tokens, retention, connections
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from uuid import uuid4

from slotwire.ingest.control.actions.records import WAITING
from slotwire.ingest.control.activity import count_webhooks
from slotwire.ingest.control.changes.sweep_records import sweeps_state
from slotwire.ingest.control.connection_checks import STATES
from slotwire.ingest.control.holes import HoleCause
from slotwire.ingest.control.retention import TABLES, held_ranges, retained
from slotwire.ingest.control.round_records import note_silence
from slotwire.ingest.control.silence import HOUR, KNOWN_WEEKS, WEEK, WEEKS, WeekProfile
from slotwire.ingest.control.subscription_findings import FindingKind
from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.agent_metrics import (
    AGENT_RUN_DEATHS,
    AGENT_RUN_OLDEST,
    AGENT_RUNS,
    AGENT_SETTINGS_DISABLED,
    AVAILABILITY_READ,
    AVAILABILITY_UNPUBLISHED,
    LETTER_OLDEST,
    LETTERS_OPEN,
    SCHEDULE_LATE,
)
from slotwire.ingest.foundation.calendly_metrics import (
    ACTION_OLDEST,
    ACTIONS_WAITING,
    CHANGE_SWEEP_LATE,
    CHANGE_SWEEP_OLDEST,
)
from slotwire.ingest.foundation.changes_settings import ChangesSettings
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.erasure_metrics import ERASURE_OLDEST, ERASURES_OPEN
from slotwire.ingest.foundation.exposition import Readings
from slotwire.ingest.foundation.postgres import Pool, give_up, read_queries, translated
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.foundation.settings import MetricsSettings
from slotwire.ingest.foundation.telemetry import (
    CONNECTIONS,
    HOLE_OLDEST,
    HOLES_OPEN,
    LAST_DELIVERY,
    ORGANIZATIONS_SILENT,
    PARKED_EVENTS,
    POSTGRES_CONNECTIONS,
    POSTGRES_CONNECTIONS_LIMIT,
    QUARANTINE_WAITING,
    RANGES_AHEAD,
    RANGES_HELD,
    RETAINED_DAYS,
    SILENCE_PROBABILITY,
    SUBSCRIPTION_FINDINGS,
    SUBSCRIPTIONS_LISTED,
    SUBSCRIPTIONS_UNSERVED,
    TOKEN_EXPIRY,
    get_logger,
)

FRESH_ROUNDS = 2
"""For how many intervals a reading is shown."""
HOLD_ROUNDS = 3
"""For how many intervals the right to show is held: longer than what was read is shown, so that no two show at once."""
PAGE_ORGANIZATIONS = 100
"""Organizations whose hours are read at a time."""
MAX_ORGANIZATIONS = 10_000
"""Organizations that are looked at; of more, the oldest."""
MAX_COUNTED = 100_000
"""Quarantined deliveries that are counted."""
UNUSUAL = 0.001
"""A silence that is less probable is unusual."""
OTHERS = "others"
"""The label of all organizations beyond the setting."""

_SHOWN: tuple[Readings, ...] = (
    *(AGENT_RUNS, AGENT_RUN_OLDEST, AGENT_RUN_DEATHS, AGENT_SETTINGS_DISABLED, LETTERS_OPEN, LETTER_OLDEST),
    *(ACTIONS_WAITING, ACTION_OLDEST, SCHEDULE_LATE, CHANGE_SWEEP_LATE, CHANGE_SWEEP_OLDEST),
    *(AVAILABILITY_READ, AVAILABILITY_UNPUBLISHED, ERASURES_OPEN, ERASURE_OLDEST),
    *(CONNECTIONS, HOLES_OPEN, HOLE_OLDEST, LAST_DELIVERY, ORGANIZATIONS_SILENT, PARKED_EVENTS, POSTGRES_CONNECTIONS),
    *(POSTGRES_CONNECTIONS_LIMIT, QUARANTINE_WAITING, RANGES_AHEAD, RANGES_HELD, RETAINED_DAYS),
    *(SILENCE_PROBABILITY, SUBSCRIPTION_FINDINGS, SUBSCRIPTIONS_LISTED, SUBSCRIPTIONS_UNSERVED, TOKEN_EXPIRY),
)
_SQL = read_queries("slotwire.ingest.sql", "observation.sql")
_ACTIONS = read_queries("slotwire.ingest.sql", "actions.sql")
_AVAILABILITY = read_queries("slotwire.ingest.sql", "availability.sql")
_RUNS = read_queries("slotwire.ingest.sql", "agent_runs.sql")
_SCHEDULES = read_queries("slotwire.ingest.sql", "agent_schedules.sql")
_LETTERS = read_queries("slotwire.ingest.sql", "dead_letters.sql")
_SETTINGS = read_queries("slotwire.ingest.sql", "agent_settings.sql")
_ROUNDS = read_queries("slotwire.ingest.sql", "subscriptions.sql")
_log = get_logger("observation")


class Observer:
    """Reads and shows, if no other process does."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        settings: MetricsSettings,
        retention: RetentionSettings | None = None,
        changes: ChangesSettings | None = None,
    ) -> None:
        self._pool, self._clock, self._settings = pool, clock, settings
        self._retention = retention or RetentionSettings()
        self._swept_every = None if changes is None else changes.interval_minutes
        self._holder = uuid4()
        self._profiles: dict[str, WeekProfile] = {}
        self._learnt: datetime | None = None

    async def run(self) -> None:
        """Make rounds until cancelled, and then let another process show. A round that fails is logged."""
        try:
            await repeat(self.run_once, stage="observation", seconds=self._settings.interval_seconds)
        finally:
            await asyncio.shield(self._leave())

    async def run_once(self) -> bool:
        """Read and show everything once; return False if another process does that.

        Raises:
            DatabaseUnavailable: what was read before is shown until it is too old.
        """
        now = self._clock.now()
        until = now + timedelta(seconds=HOLD_ROUNDS * self._settings.interval_seconds)
        with translated():
            if await self._pool.fetchval(_SQL["hold_observer"], self._holder, now, until) is None:
                for readings in _SHOWN:
                    readings.clear()
                return False
            await count_webhooks(self._pool)
            organizations = await self._pool.fetch(_SQL["last_deliveries"], MAX_ORGANIZATIONS)
            if self._learnt is None or now - self._learnt >= HOUR:
                await self._learn([row["org"] for row in organizations], now)
            last = [(row["org"], row["last_at"] or row["subscribed_at"]) for row in organizations]
            await note_silence(self._pool, self._show_silence(last, now), now)
            await self._show_the_rest(now)
        return True

    async def _learn(self, organizations: Sequence[str], now: datetime) -> None:
        """Read each organization's hours of the week before its last webhook, and forget hours that are too old.

        The present silence is not among them: it must not become usual by lasting. After four weeks of it an
        organization counts as idle, and nothing is expected any more.
        """
        oldest, profiles = now - WEEKS * WEEK, dict[str, WeekProfile]()
        for place in range(0, len(organizations), PAGE_ORGANIZATIONS):
            page = organizations[place : place + PAGE_ORGANIZATIONS]
            rows = await self._pool.fetch(_SQL["active_hours"], oldest, page)
            for org, hours in groupby(rows, key=itemgetter("org")):
                known = list(hours)
                weeks = min(WEEKS, (known[0]["last"] + HOUR - known[0]["first"]) // WEEK)
                if weeks >= KNOWN_WEEKS:
                    profiles[org] = WeekProfile.of([(each["hour_of_week"], each["weeks"]) for each in known], weeks)
        await self._pool.execute(_SQL["forget_activity"], oldest - WEEKS * WEEK - WEEK)
        self._profiles, self._learnt = profiles, now

    def _show_silence(self, last: Sequence[tuple[str, datetime]], now: datetime) -> list[str]:
        """Show each organization up to the setting, and the others as one; return those whose silence is unusual."""
        limit, silent = self._settings.organizations, list[str]()
        times, usual = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
        for number, (org, at) in enumerate(last):
            labels = (org if number < limit else OTHERS,)
            times[labels] = max(times.get(labels, 0.0), at.timestamp())
            if (profile := self._profiles.get(org)) is not None:
                probability = profile.probability(at, now)
                usual[labels] = min(usual.get(labels, 1.0), probability)
                silent += [org] if probability < UNUSUAL else []
        self._show(LAST_DELIVERY, times)
        self._show(SILENCE_PROBABILITY, usual)
        self._show(ORGANIZATIONS_SILENT, {(): len(silent)})
        return silent

    async def _show_the_rest(self, now: datetime) -> None:
        waiting = await self._pool.fetch(_SQL["count_quarantine"], MAX_COUNTED)
        self._show(QUARANTINE_WAITING, {(row["reason"],): row["deliveries"] for row in waiting})
        states = {row["state"]: row["connections"] for row in await self._pool.fetch(_SQL["count_connections"])}
        self._show(CONNECTIONS, {(state,): states.get(state, 0) for state in STATES})
        holes = {row["cause"]: row for row in await self._pool.fetch(_SQL["count_holes"])}
        self._show(HOLES_OPEN, {(each,): holes[each]["holes"] if each in holes else 0 for each in HoleCause})
        self._show(HOLE_OLDEST, {(cause,): row["noticed_at"].timestamp() for cause, row in holes.items()})
        actions = {row["state"]: row for row in await self._pool.fetch(_ACTIONS["count_actions"])}
        self._show(ACTIONS_WAITING, {(each,): actions[each]["actions"] if each in actions else 0 for each in WAITING})
        self._show(ACTION_OLDEST, {(state,): row["oldest"].timestamp() for state, row in actions.items()})
        await self._show_sweeps(now)
        row = await self._pool.fetchrow(_SQL["observe"], now)
        if row is None:  # pragma: no cover - a SELECT without FROM gives one row
            raise AssertionError
        self._show(ERASURES_OPEN, {(): row["erasures_open"]})
        asked = row["erasure_oldest"]
        self._show(ERASURE_OLDEST, {} if asked is None else {(): asked.timestamp()})
        expiry = row["token_expiry"]
        self._show(TOKEN_EXPIRY, {} if expiry is None else {(): expiry.timestamp()})
        self._show(RANGES_AHEAD, {} if row["ranges_ahead"] is None else {(): row["ranges_ahead"]})
        held = Counter(each.kind for each in await held_ranges(self._pool, self._retention, now) if each.needed_for)
        self._show(RANGES_HELD, {(kind,): held[kind] for kind in TABLES})
        self._show(RETAINED_DAYS, {(kind,): days for kind, days in (await retained(self._pool, now)).items()})
        found = {row["kind"]: row["findings"] for row in await self._pool.fetch(_ROUNDS["count_findings"])}
        self._show(SUBSCRIPTION_FINDINGS, {(kind.value,): found.get(kind.value, 0) for kind in FindingKind})
        if (rounds := await self._pool.fetchrow(_ROUNDS["rounds_state"])) is not None:
            self._show(SUBSCRIPTIONS_UNSERVED, {(): rounds["unserved"]})
            at = rounds["listed_at"]
            self._show(SUBSCRIPTIONS_LISTED, {} if at is None else {(): at.timestamp()})
        self._show(PARKED_EVENTS, {(): row["parked"]})
        runs = await self._pool.fetch(_RUNS["count_runs"], now)
        self._show(AGENT_RUNS, {(each["agent"], each["state"]): each["runs"] for each in runs})
        self._show(AGENT_RUN_OLDEST, {(each["agent"], each["state"]): each["oldest"].timestamp() for each in runs})
        deaths = await self._pool.fetch(_RUNS["count_deaths"], now)
        self._show(AGENT_RUN_DEATHS, {(each["agent"],): each["deaths"] for each in deaths})
        letters = await self._pool.fetch(_LETTERS["count_open_letters"])
        self._show(LETTERS_OPEN, {(each["agent"],): each["letters"] for each in letters})
        self._show(LETTER_OLDEST, {(each["agent"],): each["oldest"].timestamp() for each in letters})
        disabled = await self._pool.fetch(_SETTINGS["disabled_agent_settings"])
        self._show(AGENT_SETTINGS_DISABLED, {(each["agent"],): each["settings"] for each in disabled})
        late = await self._pool.fetch(_SCHEDULES["late_schedules"], now)
        self._show(SCHEDULE_LATE, {(each["agent"], each["schedule"]): float(each["seconds"]) for each in late})
        if (kept := await self._pool.fetchrow(_AVAILABILITY["availability_late"])) is not None:
            self._show(AVAILABILITY_READ, {} if kept["oldest"] is None else {(): kept["oldest"].timestamp()})
            self._show(AVAILABILITY_UNPUBLISHED, {(): kept["unpublished"]})
        self._show(POSTGRES_CONNECTIONS, {(): row["connections"]})
        self._show(POSTGRES_CONNECTIONS_LIMIT, {(): row["connections_limit"]})

    async def _show_sweeps(self, now: datetime) -> None:
        oldest = (await sweeps_state(self._pool)).oldest
        self._show(CHANGE_SWEEP_OLDEST, {} if oldest is None else {(): oldest.timestamp()})
        late: dict[tuple[str, ...], float] = {}
        if oldest is not None and self._swept_every is not None:
            late[()] = max(0.0, (now - oldest).total_seconds() - 60 * self._swept_every)
        self._show(CHANGE_SWEEP_LATE, late)

    def _show(self, readings: Readings, values: dict[tuple[str, ...], float]) -> None:
        readings.replace(values, fresh_seconds=FRESH_ROUNDS * self._settings.interval_seconds)

    async def _leave(self) -> None:
        try:
            await give_up(self._pool, _SQL["leave_observer"], self._holder)
        except SlotwireError as problem:  # then another process waits until the right ends by itself
            _log.info("not_left", error=problem.message)
