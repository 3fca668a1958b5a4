"""What keeps an agent from working, for readiness and the log: said once when it begins and once when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slotwire.ingest.foundation.errors import SlotwireError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Problems:
    """An agent's problems, by a short name each.

    Attributes:
        agent: the agent's name.
    """

    def __init__(self, agent: str, log: FilteringBoundLogger) -> None:
        self.agent = agent
        self._log = log
        self._now: dict[str, str] = {}

    def begin(self, name: str, problem: SlotwireError | str, *, quiet: bool = False) -> None:
        """Note a problem; unless it is an ordinary one, the log hears when it is new or its words changed."""
        text = problem if isinstance(problem, str) else " ".join(filter(None, (problem.message + ".", problem.remedy)))
        if self._now.get(name) != text and not quiet:
            self._log.error("agent_held", problem=name, why=text)
        self._now[name] = text

    def end(self, name: str) -> None:
        """Note that a problem is over; it is no error if it was not there."""
        if self._now.pop(name, None) is not None:
            self._log.info("agent_goes_on", problem=name)

    async def check(self) -> str | None:
        """Answer the health port: None when all is well."""
        return "; ".join(self._now.values()) or None
