"""The problems that stop an agent from working, for readiness and the log. Each is logged when it begins and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slotwire.ingest.foundation.errors import SlotwireError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Outages(NamedTuple):
    """What a loop calls its problems with Kafka and Postgres: what it can do again says nothing of the other loop."""

    kafka: str
    postgres: str


OF_EVENTS = Outages("kafka", "postgres")
OF_FIRINGS = Outages("kafka of firings", "postgres of firings")


class Problems:
    """The current problems of an agent, each under a short name.

    Attributes:
        agent: the agent's name.
    """

    def __init__(self, agent: str, log: FilteringBoundLogger) -> None:
        self.agent = agent
        self._log = log
        self._now: dict[str, str] = {}

    def begin(self, name: str, problem: SlotwireError | str, *, quiet: bool = False) -> None:
        """Note a problem, and log it if it is new or its text has changed.

        Args:
            name: its short name.
            problem: the error, or a text.
            quiet: whether to leave it out of the log, because it is part of an ordinary start.
        """
        text = problem if isinstance(problem, str) else " ".join(filter(None, (problem.message + ".", problem.remedy)))
        if self._now.get(name) != text and not quiet:
            self._log.error("agent_held", problem=name, why=text)
        self._now[name] = text

    def end(self, name: str) -> None:
        """Note that a problem is over; without such a problem nothing happens."""
        if self._now.pop(name, None) is not None:
            self._log.info("agent_goes_on", problem=name)

    async def check(self) -> str | None:
        """Return the problems in words for the health port; None when there is none."""
        return "; ".join(self._now.values()) or None
