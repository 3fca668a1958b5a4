"""What an agent does, for the eyes of its author: a line an event, and the author's own line in every error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from slotwire.handlers.places import described, own_places
from slotwire.handlers.records import Record
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.printable import one_line

if TYPE_CHECKING:
    from slotwire.handlers.context import Context
    from slotwire.handlers.dispatch.attempt import FailedRun

MAX_LINES = 10
"""Of the author's that are shown for one error."""
_ANSWERS = {
    RecordStatus.DONE: "done",
    RecordStatus.FILTERED: "left out by where=",
    RecordStatus.SKIPPED: "done before",
    RecordStatus.DEAD_LETTERED: "dead letter",
    RecordStatus.POSTPONED: "waits",
    RecordStatus.SET_ASIDE: "set aside, waits",
    RecordStatus.HELD: "held for a person",
    RecordStatus.HANDED_BACK: "handed back",
}


def to_stdout(line: str) -> None:
    """Print a line at once; to nobody, where a handler has closed the stream."""
    if not sys.stdout.closed:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


class ShownRuns:
    """Prints what came, what was answered and how long it took.

    A failed run has its lines before that of its event: the exception with its message, which may hold personal data,
    and the author's lines that it came through.
    """

    def __init__(self, clock: Clock, say: Callable[[str], None] = to_stdout) -> None:
        self._clock = clock
        self._say = say

    def failed(self, context: Context, run: FailedRun) -> None:
        """Print why a run failed."""
        event = context.event
        self._say(f"{self._now()}  {short_type(event.type)}  {event.id}  attempt {context.attempt} failed")
        for line in lines_of(run):
            self._say(f"    {line}")

    def suspected(self, event_id: UUID, deaths: int) -> None:
        """Print that processes have died while an event ran."""
        times = "once" if deaths == 1 else f"{deaths} times"
        self._say(f"{self._now()}  {event_id}  runs with care: its process died {times} while it ran")

    def settled(self, record: Record, result: RecordResult, seconds: float) -> None:
        """Print what became of a record, and how long it took."""
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        what = (
            f"{short_type(record.type or 'no event')}  {headers.get('ce_id', '')}  {headers.get('slotwire-origin', '')}"
        )
        answer = _ANSWERS[result.status]
        if result.status is RecordStatus.DEAD_LETTERED:
            answer = f"{answer} after {result.attempts} attempt{'s' * (result.attempts != 1)}: {result.reason}"
        if result.status is RecordStatus.HELD:
            answer = f"{answer}: {result.reason}"
        if result.status is RecordStatus.POSTPONED:
            answer = f"{answer} for {result.pause:.0f} s"
        self._say(f"{self._now()}  {what.strip()}  {one_line(answer)}  {seconds * 1000:.1f} ms")

    def _now(self) -> str:
        return f"{self._clock.now().astimezone():%H:%M:%S}"


def lines_of(run: FailedRun) -> list[str]:
    """Return why a run failed: the exception with its message, and the author's own lines, the innermost first."""
    if run.error is None:
        return [one_line(run.reason)]
    said = described(run.error)
    if run.reason == f"raised {type(run.error).__name__}":
        first = said
    else:
        first = run.reason if said.endswith(run.reason) else f"{run.reason}: {said}"
    places = own_places(run.error)[:MAX_LINES]
    return [*map(one_line, (first, *map(str, places or [run.trace]), *_parts_of(run.error)))]


def _parts_of(error: BaseException) -> list[str]:
    """Return what a group of exceptions holds, as that of a `TaskGroup`, each with the author's line."""
    lines: list[str] = []
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        if isinstance(part, BaseExceptionGroup):
            lines.extend(_parts_of(part))
        else:
            lines.append(f"- {described(part)}")
            lines.extend(f"  {place}" for place in own_places(part)[:1])
    return lines[:MAX_LINES]


def short_type(kind: str) -> str:
    """Return a type without what all have: `invitee.created`."""
    return kind.removeprefix("com.calendly.").removeprefix("io.slotwire.").removesuffix(".v1")
