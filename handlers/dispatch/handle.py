"""Handles one record: decode it, skip it if it is settled, run its handler, try again, or give up.

Only failures of the handler count as attempts. A run that fails because Postgres or Kafka is away, a migration is
missing or the process stops does not.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from functools import cache
from time import monotonic
from typing import Any
from uuid import UUID

from slotwire.handlers.context import Context
from slotwire.handlers.dispatch.attempt import (
    FailedRun,
    RunReport,
    RunResult,
    SuccessfulRun,
    TimeLimit,
    UncountedRun,
    run_once,
    taken_by,
    trace_of,
)
from slotwire.handlers.dispatch.careful import Care, Careful, ProcessLife
from slotwire.handlers.dispatch.give_up import GivingUp
from slotwire.handlers.dispatch.resume import Resumption
from slotwire.handlers.dispatch.runs import Runs, Work
from slotwire.handlers.dispatch.slots import RunSlots
from slotwire.handlers.firings import FiringData, read_event
from slotwire.handlers.long_work.endings import BusyRun, Ending, HeldRun, LostRun, ParkedRun
from slotwire.handlers.long_work.journal import StoredRun
from slotwire.handlers.long_work.steps import Candidate
from slotwire.handlers.patience import OUTAGE_RETRY, Interrupted, Patience, Pause, PauseRefused, drawn
from slotwire.handlers.problems import Problems
from slotwire.handlers.reach.calendly import Calls
from slotwire.handlers.reach.chains import Chains
from slotwire.handlers.records import Record, SetAsideRecord
from slotwire.handlers.registry import Agent
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.settle.agent_queue import QueuedRecord
from slotwire.handlers.settle.dead_letters import DeadLetters, GiveUpReason
from slotwire.handlers.settle.inbox import Inbox
from slotwire.handlers.settle.noted_runs import NotedRuns
from slotwire.ingest.foundation.agent_metrics import FIRING_LATE_SECONDS
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.errors import ControlUnavailable, SlotwireError
from slotwire.ingest.foundation.lifecycle import wait_for
from slotwire.ingest.foundation.telemetry import (
    HANDLED,
    POST_TO_HANDLER_SECONDS,
    get_logger,
)
from slotwire.schemas.codec import UndecodableRecord
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import BY_TYPE

_SKIPPED, _FILTERED = RecordResult(RecordStatus.SKIPPED), RecordResult(RecordStatus.FILTERED)


class Handling:
    """Handles the records of one agent.

    Args:
        postpone_after: after a failed run whose pause is longer, in seconds, a record is postponed.
        noted: where runs are noted after a process has died; None: nothing is known of other processes.
        life: of this process.

    Attributes:
        careful: what is run with care; None without `noted`.
        halted: set when the limit of dead letters is reached. From then on every record is handed back.
        patience: how servers that are away are waited for.
    """

    def __init__(  # noqa: PLR0913 - all that a run may touch
        self,
        agent: Agent,
        *,
        inbox: Inbox,
        runs: Runs,
        dead_letters: DeadLetters,
        chains: Chains,
        calls: Calls,
        problems: Problems,
        clock: Clock,
        postpone_after: float = math.inf,
        limit: TimeLimit = asyncio.timeout,
        show: RunReport | None = None,
        pause: Pause = wait_for,
        log_messages: bool = False,
        noted: NotedRuns | None = None,
        life: ProcessLife | None = None,
    ) -> None:
        self._agent = agent
        self._inbox = inbox
        self._runs = runs
        self._postpone_after = postpone_after
        self._chains = chains
        self._calls = calls
        self._limit = limit
        self._show = show
        self._slots = RunSlots(agent)
        self._problems = problems
        self._clock = clock
        self.patience = Patience(problems, pause)
        about = (agent.retry, self.patience, None if show is None else show.suspected)
        self.careful = None if noted is None else Careful(noted, life or ProcessLife(), *about)
        self._log_messages = log_messages
        self._counted = cache(lambda kind, status: HANDLED.labels(agent.name, kind, status.value))
        self._resumption = Resumption(agent, runs, problems, self.patience, self._settle_resumed)
        version = {"version": agent.version} if agent.version else {}
        self._log = get_logger("handlers", agent=agent.name, **version)
        self._giving_up = GivingUp(agent, dead_letters, runs, problems=problems, patience=self.patience, log=self._log)
        self._give_up, self.halted = self._giving_up.give_up, self._giving_up.halted

    async def handle(
        self, record: Record, stopping: asyncio.Event, *, queued: QueuedRecord | None = None
    ) -> RecordResult:
        """Handle one record, and try its handler again until it is settled, postponed or handed back.

        Args:
            record: the record.
            stopping: set when no further run may begin: pauses end, and the record is handed back.
            queued: what the agent's queue says of it, if it comes from there.
        """
        if self.halted.is_set() or stopping.is_set():
            return RecordResult(RecordStatus.HANDED_BACK)
        began = monotonic()
        try:
            try:
                result = await self._handle(record, stopping, queued)
            except (Interrupted, PauseRefused):
                raise
            except Exception as defect:  # noqa: BLE001 - whatever is in a record, it costs that record only
                # One on which our own code fails is given up, so that it ends neither agent nor partition.
                result = await self._give_up(record, self._defect(defect), stopping, queued)
        except Interrupted:
            return RecordResult(RecordStatus.HANDED_BACK)
        self._settled(record, result, began)
        return result

    def _settled(self, record: Record, result: RecordResult, began: float) -> None:
        kind, status = record.type, result.status
        if self._show is not None and (kind is None or kind in self._agent.handlers):
            self._show.settled(record, result, monotonic() - began)
        if status is RecordStatus.DONE:
            self._giving_up.succeeded()
        elif status is RecordStatus.HANDED_BACK or status is RecordStatus.POSTPONED:
            return
        known = kind in self._agent.handlers or kind in BY_TYPE
        self._counted(kind if known else "unknown", status).inc()

    def _defect(self, defect: Exception) -> GiveUpReason:
        self._log.error("record_not_handled", reason=type(defect).__name__, trace=trace_of(defect))
        return GiveUpReason(f"defect: raised {type(defect).__name__}", attempts=0, trace=trace_of(defect))

    async def _handle(self, record: Record, stopping: asyncio.Event, queued: QueuedRecord | None) -> RecordResult:
        if isinstance(record, SetAsideRecord):
            return await self._go_on(record, stopping)
        handled = record.type is None or record.type in self._agent.handlers
        runs = await self._resumption.concerning(record, stopping) if self._runs.in_use else ()
        if not handled and not any(record.type in run.awaited for run in runs):
            return _SKIPPED
        try:
            try:
                event = read_event(record)
            except UndecodableRecord as error:
                if error.reason != "data_elsewhere":
                    raise
                event = await self._fetched(record, stopping)
        except UndecodableRecord as error:
            why = GiveUpReason(f"{error.reason}: {error}", attempts=0)
            return await self._give_up(record, why, stopping, queued) if handled else _SKIPPED
        work = Work(record, event, queued=queued)
        if runs:
            return await self._handle_beside(runs, work, stopping)
        if (taken := taken_by(self._agent, event)) is False:
            return _FILTERED
        work.taken = taken is True
        return _SKIPPED if await self._is_done(event.id, stopping) else await self._run_until_settled(work, stopping)

    async def _handle_beside(self, runs: tuple[StoredRun, ...], work: Work, stopping: asyncio.Event) -> RecordResult:
        """Let the runs of its key go on that an event may answer, then its own handler, if it has one that takes it."""
        record, event = work.record, work.event
        work.known = next((run for run in runs if run.event_id == event.id), None)
        handled = event.type in self._agent.handlers
        taken = handled and (work.known is not None or taken_by(self._agent, event) is not False)
        if work.is_set_aside:
            return _SKIPPED
        if taken and await self._is_done(event.id, stopping):
            if work.known is not None:  # its member ended between the mark and the end of the run
                await self.patience.until_answered("postgres", lambda: self._runs.journal.finish(event.id), stopping)
            return _SKIPPED
        for run in runs:
            await self._resumption.answer(run, Candidate(record, event), stopping)
        if not taken:
            return _FILTERED if handled else _SKIPPED
        return await self._run_until_settled(work, stopping)

    async def _go_on(self, record: SetAsideRecord, stopping: asyncio.Event) -> RecordResult:
        """Let a run that was set aside go on without an event: its wait is over, or its member is gone."""
        run = await self._resumption.stored(record, record.event_id, stopping)
        work = None if run is None or not run.is_set_aside else self._runs.whole(run, place=record.place)
        if work is None:
            return _SKIPPED
        if await self._is_done(record.event_id, stopping):
            await self.patience.until_answered("postgres", lambda: self._runs.journal.finish(record.event_id), stopping)
            return _SKIPPED
        return await self._spared(work, stopping)

    async def _settle_resumed(self, work: Work, stopping: asyncio.Event) -> RecordResult:
        """Let a run go on during the handling of another event."""
        began = monotonic()
        result = await self._spared(work, stopping)
        self._settled(work.record, result, began)
        return result

    async def _spared(self, work: Work, stopping: asyncio.Event) -> RecordResult:
        """Run a handler until its event is settled; a defect of ours costs this run only, not the event that came."""
        try:
            return await self._run_until_settled(work, stopping)
        except (Interrupted, PauseRefused):
            raise
        except Exception as defect:  # noqa: BLE001 - as for a record
            return await self._give_up(work.record, self._defect(defect), stopping, None)

    def _is_done(self, event_id: UUID, stopping: asyncio.Event) -> Awaitable[bool]:
        return self.patience.until_answered("postgres", lambda: self._inbox.seen(event_id), stopping)

    async def _fetched(self, record: Record, stopping: asyncio.Event) -> Event[Any]:
        """Read a record whose data is in the log."""
        # Decoding got as far as the data, so the identifier is there, once, and well-formed.
        event_id = UUID(next(value for name, value in record.headers if name == "ce_id" and value).decode())
        fetched = await self.patience.until_answered("postgres", lambda: self._inbox.data_of(event_id), stopping)
        return read_event(record, elsewhere=fetched)

    async def _run_until_settled(self, work: Work, stopping: asyncio.Event) -> RecordResult:
        """Run an event's handler, and try again until the event is settled, set aside, postponed or handed back."""
        if work.known is None and work.queued is None:
            self._observe(work.event)
        self._runs.begin(work, stopping)
        if self.careful is not None:
            work.care = self.careful.of(work.record, work.event.id)
        try:
            if work.care is not None:
                return await self._run_with_care(work, work.care, stopping)
            return await self._run_again_and_again(work, stopping)
        except BaseException:
            await work.run.release()
            raise
        finally:
            self._runs.end(work)

    async def _run_with_care(self, work: Work, care: Care, stopping: asyncio.Event) -> RecordResult:
        """Run an event's handler where a process has died, unless too many have with this event."""
        begun = await care.begin(stopping)
        if isinstance(begun, GiveUpReason):
            result = await self._give_up(work.record, begun, stopping, work.queued)
        else:
            work.failures = max(work.failures, begun)
            result = await self._run_again_and_again(work, stopping)
        await care.end(result, stopping)
        return result

    async def _run_again_and_again(self, work: Work, stopping: asyncio.Event) -> RecordResult:
        if work.failures >= self._agent.retry.attempts:
            why = GiveUpReason("its attempts were used up, and its member ended before it was given up", work.failures)
            return await self._give_up(work.record, why, stopping, work.queued)
        outages = 0
        while True:
            context = self._context(work)
            if work.care is not None:
                run = await self._run_noted(work.care, work, context, stopping)
            else:
                run = await (self._run_in_turn if self._slots.limited else self._run)(work, context, stopping)
            if not isinstance(run, UncountedRun):
                self._problems.end("control")
            match run:
                case SuccessfulRun():
                    return await self._succeeded(work, run, stopping)
                case UncountedRun(problem):
                    self._problems.begin(_server_of(problem), problem)
                    outages += 1
                    await self.patience.wait(OUTAGE_RETRY.pause(outages, drawn()), stopping)
                case BusyRun(until):
                    await self.patience.wait(self._runs.pause_until(until), stopping)
                case FailedRun():
                    result = await self._failed(work, context, run, stopping)
                    if result is not None:
                        return result
                case _:
                    return await self._ended(work, context, run, stopping)
            work.again()

    async def _succeeded(self, work: Work, run: SuccessfulRun, stopping: asyncio.Event) -> RecordResult:
        """Mark an event whose run succeeded, unless that is done already."""
        if not (run.by_another or run.filtered or run.marked):
            await self.patience.until_answered("postgres", lambda: self._inbox.mark(work.event.id), stopping)
        if work.run.has_journal:
            await self.patience.until_answered("postgres", work.run.finish, stopping)
        if run.by_another or run.filtered:
            return RecordResult(RecordStatus.FILTERED if run.filtered else RecordStatus.SKIPPED, work.failures)
        return RecordResult(RecordStatus.DONE, work.failures + 1)

    async def _ended(
        self, work: Work, context: Context, ended: GiveUpReason | Ending, stopping: asyncio.Event
    ) -> RecordResult:
        """Settle an event as its last run says, or hand it back."""
        event, failures = work.event, work.failures
        match ended:
            case GiveUpReason():
                return await self._give_up(work.record, ended, stopping, work.queued)
            case ParkedRun():
                return RecordResult(RecordStatus.SET_ASIDE, failures)
            case HeldRun(state, reason):
                context.log.error("run_held", state=state, reason=reason)
                return RecordResult(RecordStatus.HELD, failures, reason)
            case LostRun() if await self._is_done(event.id, stopping):
                return RecordResult(RecordStatus.SKIPPED, failures)
        raise Interrupted

    def _observe(self, event: Event[Any]) -> None:
        """Observe how long a webhook's event was on its way here, or how late a firing begins."""
        if isinstance(event.data, FiringData):
            late = (self._clock.now() - event.data.due).total_seconds()
            FIRING_LATE_SECONDS.labels(self._agent.name, event.data.schedule).observe(max(0.0, late))
        if event.origin == "webhook" and event.replay is None and event.recorded_time is not None:
            waited = (self._clock.now() - event.recorded_time).total_seconds()
            POST_TO_HANDLER_SECONDS.labels(self._agent.name).observe(max(0.0, waited))

    async def _failed(
        self, work: Work, context: Context, run: FailedRun, stopping: asyncio.Event
    ) -> RecordResult | None:
        """Give a record up after a failed run, or postpone it, or wait for its next run: then there is no result."""
        self._tell(context, run)
        work.failures += 1
        await self.patience.until_answered("postgres", work.run.count_attempt, stopping)
        if work.failures >= self._agent.retry.attempts:
            why = GiveUpReason(run.reason, work.failures, run.trace)
            return await self._give_up(work.record, why, stopping, work.queued)
        pause = self._agent.retry.pause(work.failures, drawn()) if run.pause is None else run.pause
        if pause > self._postpone_after and not work.is_set_aside:
            return RecordResult(RecordStatus.POSTPONED, work.failures, pause=pause)
        await self.patience.wait(pause, stopping)
        return None

    async def _run_in_turn(self, work: Work, context: Context, stopping: asyncio.Event) -> RunResult:
        """Run the handler once, as soon as the agent's limits on runs at once let it."""
        async with self._slots.taken(context.organization):
            return await self._run(work, context, stopping)

    async def _run_noted(self, care: Care, work: Work, context: Context, stopping: asyncio.Event) -> RunResult:
        """Run the handler once, noted while it runs: in its turn among those that are suspected, then as usual."""
        async with care.turn(stopping), self._slots.taken(context.organization), care.noted(stopping):
            return await self._run(work, context, stopping)

    def _run(self, work: Work, context: Context, stopping: asyncio.Event) -> Awaitable[RunResult]:
        if stopping.is_set():
            raise Interrupted
        return run_once(work.code, context, self._limit, taken=work.taken)

    def _tell(self, context: Context, run: FailedRun) -> None:
        HANDLED.labels(self._agent.name, context.event.type, "retried").inc()
        if self._show is not None:
            self._show.failed(context, run)
            return
        said = {"message": run.message} if self._log_messages and run.message else {}
        attempt = context.attempt
        context.log.warning("handler_failed", reason=run.reason, trace=run.trace, attempt=attempt, **said)

    def _context(self, work: Work) -> Context:
        event, queued = work.event, work.queued
        return Context(
            event,
            self._agent.name,
            work.failures + 1,
            work.record.published_at,
            self._clock.now(),
            self._clock,
            self._inbox,
            self._chains,
            self._calls,
            self._agent.version,
            redriven=queued is not None and queued.letter is not None,
            newer_position=None if queued is None else queued.newer,
            edited=queued is not None and queued.edited,
            run=work.run,
        )


def _server_of(problem: SlotwireError) -> str:
    return "control" if isinstance(problem, ControlUnavailable) else "postgres"
