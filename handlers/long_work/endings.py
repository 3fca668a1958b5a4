"""How a run with a journal ends before its handler does, and what its handler may be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slotwire.handlers.long_work.journal import HeldState
from slotwire.ingest.foundation.errors import SlotwireError


class StepOutcomeUnknown(Exception):
    """A step began in an earlier run and did not end, so nobody knows whether it had its effect.

    A handler may catch it and find out elsewhere. If it does not, the run is held for a person. A step's function may
    raise it, too, where it cannot tell.

    Attributes:
        step: its name.
        again: whether the handler has said that it may be called again.
    """

    def __init__(self, step: str) -> None:
        super().__init__(f"step {step!r} began, and it is not known how it ended")
        self.step = step
        self.again = False


class StepResultTooLarge(StepOutcomeUnknown, ValueError):
    """What a step returned is no JSON, or too much of it. The step has run, and counts as one of unknown outcome."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(step)
        self.args = (f"step {step!r} {why}",)


class Suspended(BaseException):
    """The run ends here for now. It passes through the handler like a cancellation; do not catch it."""


@dataclass(frozen=True)
class ParkedRun:
    """The run is set aside with its event until what it waits for is there."""


@dataclass(frozen=True)
class HeldRun:
    """The run is set aside with its event until a person, or another version, takes it.

    Attributes:
        state: why: `unknown`, `diverged` or `parked`.
        reason: in words, without personal data.
    """

    state: HeldState
    reason: str


@dataclass(frozen=True)
class InterruptedRun:
    """The process stops: the run ended between two steps, and goes on elsewhere."""


@dataclass(frozen=True)
class BusyRun:
    """Another member works on a step of this run, as far as is known until then."""

    until: datetime


@dataclass(frozen=True)
class LostRun:
    """Another member has taken the run, or somebody has ended it."""


@dataclass(frozen=True)
class TroubledRun:
    """The journal could not be written, and the handler went on as if it had been."""

    problem: SlotwireError


Ending = ParkedRun | HeldRun | InterruptedRun | BusyRun | LostRun | TroubledRun
