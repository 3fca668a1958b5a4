"""One run of a handler, and what its answer means."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass

from slotwire.handlers.context import Context
from slotwire.handlers.dead_letters import GivenUp
from slotwire.handlers.inbox import AlreadyDone
from slotwire.handlers.outcome import Done, Reject, Retry
from slotwire.handlers.registry import Agent
from slotwire.ingest.foundation.errors import ConfigurationError, DatabaseUnavailable, SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.telemetry import HANDLER_SECONDS

_MAX_FRAMES = 6


@dataclass(frozen=True)
class Finished:
    """The handler is done, or somebody else was before it.

    Attributes:
        by_another: another run had committed the effect.
        marked: the mark that it is done is committed already.
    """

    by_another: bool = False
    marked: bool = False


@dataclass(frozen=True)
class Failed:
    """The run failed; another one may follow.

    Attributes:
        reason: in a line, without the exception's words: they may hold personal data.
        trace: modules, lines and functions of the failure, no values.
        pause: how many seconds the handler wants to wait, if it said so.
    """

    reason: str
    trace: str = ""
    pause: float | None = None


@dataclass(frozen=True)
class Held:
    """The event is not to blame: a server was away. The run does not count."""

    problem: SlotwireError


Answer = Finished | Failed | Held | GivenUp


async def run_once(agent: Agent, context: Context) -> Answer:
    """Run an event's handler; what it returns or raises is an answer."""
    event = context.event
    handler = agent.handlers[event.type]
    deadline = asyncio.timeout(agent.timeout_seconds)
    answer: Answer
    with HANDLER_SECONDS.labels(agent.name, event.type).time():
        try:
            async with deadline:
                outcome: object = await handler(event, context)
        except AlreadyDone:
            return Finished(by_another=True)
        except (DatabaseUnavailable, SchemaMismatch, ConfigurationError) as error:
            answer = Held(error) if not context.committed else _failure(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its policy's business
            timed_out = isinstance(error, TimeoutError) and deadline.expired()
            answer = _failure(error, f"ran longer than {agent.timeout_seconds:g} s" if timed_out else "")
        else:
            answer = _read(outcome, context)
    if context.already_done:
        return Finished(by_another=True)  # the handler caught what said so
    if context.committed and isinstance(answer, Failed | GivenUp):
        # Its effect is committed and cannot be tried again; whoever wrote the handler has to know.
        text = f"failed after its transaction had committed: {answer.reason}"
        return GivenUp(text, context.attempt, answer.trace)
    return answer


def _read(outcome: object, context: Context) -> Answer:
    match outcome:
        case None | Done():
            return Finished(marked=context.committed)
        case Retry():
            return Failed("the handler asked for another try", pause=outcome.seconds)
        case Reject():
            return GivenUp(outcome.reason, context.attempt)
        case _:  # what a handler returns is checked by nobody before it gets here
            return Failed(f"the handler returned {type(outcome).__name__}, not Done, Retry, Reject or None")


def _failure(error: Exception, reason: str = "") -> Failed:
    frames = traceback.extract_tb(error.__traceback__)[1:][-_MAX_FRAMES:]
    trace = " < ".join(f"{_module(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return Failed(reason or f"raised {type(error).__name__}", trace)


def _module(path: str) -> str:
    """Shorten a file's path to its folder and name: paths of machines say nothing elsewhere."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])
