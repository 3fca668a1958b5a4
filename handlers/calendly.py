"""Calls to Calendly for an event: made by `slotwire control`, which has the credentials.

A process that runs an author's code has none. It asks with a grant that is bound to the agent and the event; the
organization, the user and the meeting come from the log.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated

_QUERIES = read_queries("slotwire.handlers", "inbox.sql")

Values = Mapping[str, Sequence[str]]


class Calls(Protocol):
    """Makes calls to Calendly for events: through `slotwire control`, or in memory for an agent's own tests."""

    async def grant(self, event_id: UUID) -> str:
        """Get a grant for the calls of one event."""
        ...

    async def call(self, grant: str, operation: str, values: Values) -> Any:
        """Make one call."""
        ...


class EventCalendly:
    """Calendly as seen from one event: `ctx.calendly`."""

    def __init__(self, calls: Calls, event_id: UUID) -> None:
        self._calls = calls
        self._event_id = event_id
        self._grant: str | None = None

    async def call(self, operation: str, /, **values: object) -> Any:
        """Read something that belongs to the event's meeting or to the user who hosts it.

            busy = await ctx.calendly.call("list-user-busy-times", start_time=start, end_time=end)

        `docs/howto/write-an-agent.md` lists the operations. The user, the meeting and the invitee are filled in.

        Args:
            operation: as Calendly's reference calls it.
            values: by its parameters; a time may be a `datetime`, several values a list.

        Returns:
            What Calendly answers: all items of a list, at most 1,000, or one document.

        Raises:
            RequestRefused: the call is not for this event, or Calendly refused it; `code` says which.
            ControlUnavailable: `slotwire control` or Calendly is away. Do not catch it: the event is then tried again,
                and the run does not count as an attempt.
        """
        if self._grant is None:
            self._grant = await self._calls.grant(self._event_id)
        return await self._calls.call(self._grant, operation, {name: _texts(each) for name, each in values.items()})


def _texts(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value.isoformat() if hasattr(value, "isoformat") else str(value)]


class ControlledCalls:
    """Calls of one agent, through `slotwire control`."""

    def __init__(self, database: Pool | Connection, control: ControlClient, *, agent: str, clock: Clock) -> None:
        self._database = database
        self._control = control
        self._agent = agent
        self._clock = clock

    async def grant(self, event_id: UUID) -> str:
        """Get a grant for the calls of one event.

        Raises:
            RequestRefused: the log has no such event any more (`not_found`).
            DatabaseUnavailable: Postgres is away.
        """
        made = secrets.token_urlsafe(32)
        digest = hashlib.sha256(made.encode()).digest()
        with translated():
            found = await self._database.fetchval(
                _QUERIES["grant_calls"], digest, self._agent, event_id, self._clock.now()
            )
        if not found:
            raise RequestRefused(
                "the log does not have this event any more, so nothing can be asked for it", code="not_found"
            )
        return made

    async def call(self, grant: str, operation: str, values: Values) -> Any:
        """Make one call; see `EventCalendly.call`."""
        return await self._control.call(grant, operation, values)


@dataclass
class MemoryCalls:
    """The Calendly of a trial.

    Attributes:
        answers: what a call answers, by its operation: a test sets them.
        made: the calls that were made, each with its values.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    made: list[tuple[str, Values]] = field(default_factory=list)

    async def grant(self, event_id: UUID) -> str:
        """Grant anything."""
        return str(event_id)

    async def call(self, grant: str, operation: str, values: Values) -> Any:
        """Return what the test has set; an exception is raised."""
        del grant
        self.made.append((operation, values))
        if operation not in self.answers:
            raise RequestRefused(
                f"this trial has no answer to {operation}",
                code="call_unknown",
                remedy=f'Set one: trial.calendly.answers["{operation}"] = …',
            )
        answer = self.answers[operation]
        if isinstance(answer, Exception):
            raise answer
        return answer
