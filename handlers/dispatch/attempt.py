"""One run of a handler, and the meaning of what it returned or raised."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from time import monotonic
from typing import Any, Protocol
from uuid import UUID

from slotwire.handlers.context import Context
from slotwire.handlers.dispatch import isolation
from slotwire.handlers.dispatch.interruption import AbandonedRun, abandoned_in
from slotwire.handlers.dispatch.isolation import Closed, RanTooLong, isolated
from slotwire.handlers.long_work.endings import Ending, StepOutcomeUnknown, StepResultTooLarge, TroubledRun
from slotwire.handlers.long_work.steps import Run
from slotwire.handlers.outcome import Done, Reject, Retry
from slotwire.handlers.records import Record
from slotwire.handlers.registry import Agent
from slotwire.handlers.results import RecordResult
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.inbox import AlreadyDone, NotCommitted
from slotwire.handlers.threads import threads_ended
from slotwire.handlers.unawaited import Dropped, noting
from slotwire.ingest.foundation.agent_metrics import RUNS_ABANDONED
from slotwire.ingest.foundation.errors import (
    ConfigurationError,
    ControlUnavailable,
    DatabaseUnavailable,
    SchemaMismatch,
    SlotwireError,
)
from slotwire.ingest.foundation.telemetry import HANDLER_SECONDS
from slotwire.ingest.foundation.tracing import tracing
from slotwire.schemas.envelope import Event

_MAX_FRAMES = 6
_UNTRACED = nullcontext()
_LET_THROUGH = "let CancelledError through, catch Exception instead"
_seconds = cache(HANDLER_SECONDS.labels)
"""The series is found once: that costs as much as many a handler."""
MAX_MESSAGE_CHARACTERS = 500
"""Of an exception's message in the log."""


@dataclass(frozen=True)
class SuccessfulRun:
    """The event has had its effect, by this run or by an earlier one, or shall have none.

    Attributes:
        by_another: another run had committed the effect before.
        filtered: the handler's filter does not take the event, and nothing ran.
        marked: this run has already committed the mark that the event is done.
    """

    by_another: bool = False
    filtered: bool = False
    marked: bool = False


_MARKED, _UNMARKED = SuccessfulRun(marked=True), SuccessfulRun()


@dataclass(frozen=True)
class FailedRun:
    """The run failed; another one may follow.

    Attributes:
        reason: one line, without the exception's message, which may contain personal data.
        trace: modules, lines and functions of the failure, without values.
        pause: the seconds the handler asked to wait; None if it did not.
        message: the exception's message, for a log that may hold personal data; empty without one.
        error: the exception itself, for the eyes of the author.
        unknown: the step whose outcome is not known; None if that is not why.
    """

    reason: str
    trace: str = ""
    pause: float | None = None
    message: str = field(default="", compare=False, repr=False)
    error: BaseException | None = field(default=None, compare=False, repr=False)
    unknown: str | None = None


@dataclass(frozen=True)
class UncountedRun:
    """The run failed because a server was away or a migration missing. It does not count as an attempt."""

    problem: SlotwireError


class RunReport(Protocol):
    """Shows an author what an agent does."""

    def failed(self, context: Context, run: FailedRun) -> None:
        """Show why a run failed, in place of the log."""
        ...

    def suspected(self, event_id: UUID, deaths: int) -> None:
        """Show that an event runs with which so many processes have died, in place of the log."""
        ...

    def settled(self, record: Record, result: RecordResult, seconds: float) -> None:
        """Show what became of a record, and how long it took."""
        ...


TimeLimit = Callable[[float], asyncio.Timeout]
"""Makes the limit of a run from its seconds; a trial's follows its own clock."""
RunResult = SuccessfulRun | FailedRun | UncountedRun | GiveUpReason | Ending


async def run_once(
    agent: Agent, context: Context, limit: TimeLimit = asyncio.timeout, *, taken: bool = False
) -> RunResult:
    """Ask the handler's filter, then run the handler once. Whatever they raise becomes part of the result.

    Args:
        agent: the agent.
        context: what the handler gets.
        limit: makes the limit of its time.
        taken: whether the filter has taken the event before, as it has that of a run that goes on.
    """
    run = context.run
    known = taken or (run is not None and run.known is not None)
    result = (None if known else _filtered(agent, context)) or await _run(agent, context, limit)
    if run is None or run.untouched:
        return result
    try:
        return await _judged(context, run, result)
    except (DatabaseUnavailable, SchemaMismatch, ConfigurationError) as error:
        return UncountedRun(error)


async def _judged(context: Context, run: Run, result: RunResult) -> RunResult:
    """Return how a run with a journal ended: it may have been set aside, whatever its handler made of that."""
    if context.committed or context.already_done:
        return result
    match run.ending, result:
        case TroubledRun(problem), _:
            return UncountedRun(problem)
        case None, SuccessfulRun(filtered=False):
            return FailedRun(run.refused) if run.refused is not None else await run.complete() or result
        case None, FailedRun(unknown=str(step)) if run.claimed:
            too_large = isinstance(result.error, StepResultTooLarge)
            return await run.hold(
                "unknown", result.message if too_large else f"it is not known how step {step!r} ended"
            )
    return run.ending or result


async def _run(agent: Agent, context: Context, limit: TimeLimit) -> RunResult:
    event = context.event
    handler = agent.handlers[event.type]
    result: RunResult
    began, dropped = monotonic(), noting()
    try:
        with _span(context):
            outcome: object = await isolated(handler(event, context), partial(limit, agent.timeout_seconds))
    except AlreadyDone:
        return SuccessfulRun(by_another=True)
    except RanTooLong as error:
        result = await _interrupted(error, agent, context, dropped)
    except BaseException as error:  # noqa: BLE001 - the agent's policy decides what follows
        result = _judge(error, context)
    else:
        result = _read(outcome, context)
        if dropped.first and isinstance(result, SuccessfulRun):
            result = FailedRun(dropped.first)
        if _is_cancelled() and _cancelled_itself(context):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # it comes at the next pause
    finally:
        dropped.end()
        _seconds(agent.name, event.type).observe(monotonic() - began)
        if (tokens := context.end()) is not None:
            await tokens.end()
    if context.already_done:
        return SuccessfulRun(by_another=True)  # the handler caught AlreadyDone
    if context.committed and isinstance(result, FailedRun | GiveUpReason):
        # The effect is committed and cannot be tried again, so the handler's author has to be told.
        text = f"failed after its transaction had committed: {result.reason}"
        return GiveUpReason(text, context.attempt, result.trace)
    return result


async def _interrupted(error: RanTooLong, agent: Agent, context: Context, dropped: Dropped) -> RunResult:
    """Say what follows from the end of a run's time, once the threads that it has begun have ended, too."""
    over = error.__cause__ or error
    result = _judge(over, context, f"ran longer than {agent.timeout_seconds:g} s")
    if isinstance(result, FailedRun):  # its interruption tells what it was at
        abandoned, interrupted = abandoned_in(over), over.__cause__ or over
        trace = trace_of(interrupted) if abandoned is None else abandoned.at
        result = replace(result, trace=trace, error=interrupted if abandoned is None else None)
    if (tokens := context.end()) is not None:
        await tokens.end()
    await threads_ended(dropped, context.agent, context.log)
    return result


def _span(context: Context) -> AbstractContextManager[object]:
    if not tracing().on:
        return _UNTRACED
    event = context.event
    about = {"agent": context.agent, "event": str(event.id), "type": event.type, "attempt": str(context.attempt)}
    return tracing().span("handle", "CONSUMER", parent=event.traceparent, usual=AlreadyDone, **about)


def _judge(error: BaseException, context: Context, reason: str = "") -> RunResult:
    """Say what follows from what a handler raised; raise what is not its own."""
    if (abandoned := abandoned_in(error)) is not None:
        _abandon(abandoned, context)
        reason = f"{reason} and caught its interruption, at {abandoned.at}: {_LET_THROUGH}"
    match error:
        case NotCommitted():
            reason = error.reason
        case DatabaseUnavailable() | ControlUnavailable() | SchemaMismatch() | ConfigurationError() if (
            not context.committed
        ):
            return UncountedRun(error)
        case StepOutcomeUnknown() if not error.again:
            return replace(_failure(error), unknown=error.step)
        case asyncio.CancelledError() if not _cancelled_itself(context):
            raise error
        case KeyboardInterrupt() | Closed():
            raise error  # whoever stops the process, and the end of the loop
        case _:
            pass
    return _failure(error, reason)


def _abandon(run: AbandonedRun, context: Context) -> None:
    """Leave a run that did not end: its context refuses everything, and what its transaction has written is undone."""
    context.end()
    run.close()
    RUNS_ABANDONED.labels(context.agent, "handler").inc()
    context.log.error("run_abandoned", at=run.at, attempt=context.attempt)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _cancelled_itself(context: Context) -> bool:
    """Whether a run was cancelled from inside, by a library or by itself; what is left of that is taken back.

    The runtime says that it stops before it interrupts a run.
    """
    task = asyncio.current_task()
    if task is None or context.run is None:
        return task is not None and not task.cancelling()
    if context.run.stopping.is_set():
        return False
    while task.cancelling():
        task.uncancel()
    return True


def taken_by(agent: Agent, event: Event[Any]) -> bool | None:
    """Whether the handler's filter takes an event; None where it does not say: a run asks it again, and fails."""
    try:
        taken = agent.takes(event)
    except BaseException:  # noqa: BLE001 - told by the run
        return None
    return taken if taken is True or taken is False else None


def _filtered(agent: Agent, context: Context) -> SuccessfulRun | FailedRun | None:
    """Ask the handler's filter; None where the event is taken."""
    try:
        taken = agent.takes(context.event)
    except BaseException as error:  # noqa: BLE001 - an author's function
        return _failure(error, f"its filter raised {type(error).__name__}")
    if taken is True:
        return None
    if taken is False:
        return SuccessfulRun(filtered=True)
    return FailedRun(f"its filter returned {type(taken).__name__}, not True or False")


def _read(outcome: object, context: Context) -> RunResult:
    match outcome:
        case None | Done() if context.not_committed is not None:
            return FailedRun(context.not_committed)
        case None | Done():
            return _MARKED if context.committed else _UNMARKED
        case Retry():
            return FailedRun("the handler asked for another try", pause=outcome.seconds)
        case Reject():
            return GiveUpReason(_written(outcome.reason), context.attempt)
        case type():
            return FailedRun(f"the handler returned the class {outcome.__name__}: write {outcome.__name__}()")
        case _:  # the first check of what the handler returned
            return FailedRun(f"the handler returned {type(outcome).__name__}, not Done, Retry, Reject or None")


def _failure(error: BaseException, reason: str = "") -> FailedRun:
    message = _written(error)[:MAX_MESSAGE_CHARACTERS]
    return FailedRun(reason or f"raised {type(error).__name__}", trace_of(error), message=message, error=error)


def trace_of(error: BaseException) -> str:
    """Return where an exception was raised, the innermost place first: modules, lines and functions, without values.

    The last place is always the outermost one, the handler itself: of a deep trace the middle is left out.
    """
    frames = [each for each in traceback.extract_tb(error.__traceback__)[1:] if each.filename != isolation.__file__]
    if len(frames) > _MAX_FRAMES:
        frames = frames[:1] + frames[1 - _MAX_FRAMES :]
    return _written(" < ".join(f"{_module(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)))


def _written(text: object) -> str:
    """Return a text as a header and the log can hold it: halves of characters are replaced.

    An author's class may fail to say what it is.
    """
    try:
        return str(text).encode(errors="replace").decode()
    except Exception:  # noqa: BLE001 - an author's function
        return f"a {type(text).__name__} that cannot be written"


def _module(path: str) -> str:
    """Shorten a path to the file's folder and name: the rest differs from machine to machine."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])
