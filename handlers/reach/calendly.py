"""Calls and actions at Calendly for an event: made by `slotwire control`, which has the credentials.

A process that runs an author's code has none. It asks with a grant that is bound to the agent and the event; the
organization, the user and the meeting come from the log.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol
from uuid import UUID

from slotwire.handlers.reach.mcp_tokens import PREFIX, RunCalls, RunToken
from slotwire.ingest.foundation.clock import Clock, ordered_id
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import ConfigurationError, RequestRefused
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated

_QUERIES = read_queries("slotwire.handlers.sql", "inbox.sql")
_FIRING_QUERIES = read_queries("slotwire.handlers.sql", "schedules.sql")

_FIELDS = {"invitee_name": "name"}
"""Details of actions that are called otherwise there: `name` is the action's own."""

Values = Mapping[str, Sequence[str]]


class Calls(RunCalls, Protocol):
    """Makes calls to Calendly for events: through `slotwire control`, or in memory for an agent's own tests."""

    async def grant(self, event_id: UUID) -> str:
        """Get a grant for the calls of one event."""
        ...

    async def grant_firing(self, firing_id: UUID, user: str | None) -> str:
        """Get a grant for the calls of one firing, where it is of the clock as a user."""
        ...

    async def call(self, grant: str, operation: str, values: Values) -> Any:
        """Make one call."""
        ...

    async def act(self, grant: str, name: str, action: Mapping[str, Any]) -> Any:
        """Do something, once for agent, event and name."""
        ...


class EventCalendly:
    """Calendly as seen from one event: `ctx.calendly`."""

    def __init__(
        self,
        calls: Calls,
        event_id: UUID,
        *,
        firing: bool = False,
        user: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Take what it needs.

        Args:
            calls: makes the calls.
            event_id: the event's, or the firing's.
            firing: whether it is a firing.
            user: as whom, of a firing of the clock.
            check: raises where nothing may be asked any more.
        """
        self._check = check
        self._calls = calls
        self._event_id = event_id
        self._firing = firing
        self._user = user
        self._grant: str | None = None

    def as_user(self, user: str) -> EventCalendly:
        """Return Calendly as seen by a user, for a firing of the clock: its calls are about nobody else.

            busy = await ctx.calendly.as_user(uri).call("list-user-busy-times", start_time=start, end_time=end)

        Args:
            user: the URI of a user who is connected, of the firing's organization.

        Raises:
            RuntimeError: this is no firing: an event says itself which user it is about.
        """
        if not self._firing:
            raise RuntimeError("only scheduled work names a user: an event is about the one who hosts its meeting")
        return EventCalendly(self._calls, self._event_id, firing=True, user=user, check=self._check)

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
        texts = {name: _texts(each) for name, each in values.items()}
        return await self._granted(lambda grant: self._calls.call(grant, operation, texts))

    async def act(self, verb: str, /, *, name: str = "", **details: object) -> Any:
        """Change something at Calendly for the event: once, however often it is asked.

            done = await ctx.calendly.act("cancel", reason="The host is ill")
            if done["state"] in ("open", "not_sent"):
                return Retry(after=30)

        `docs/explanation/actions.md` says what the states mean, and what is sent. The operator of `control` allows it
        for each agent by its name.

        Args:
            verb: `cancel` or `reschedule` the event's meeting; `mark_no_show` its invitee, or `clear_no_show` of a
                mark that this agent has set; or `book` a slot of the same event type.
            name: a name of your own, where an event needs the same verb twice; else the verb.
            details: what the action takes: `reason`, `everyone`, `start_time`, `may_lose_slot`; to book `start_time`,
                `email`, `invitee_name`, `timezone` and the others of `/v1/actions`. The same in every run.

        Returns:
            The action as it is now, as `/v1/actions/{id}` shows it.

        Raises:
            RequestRefused: the agent may not act, or the action is refused; `code` says which.
            ControlUnavailable: as for `call`.
        """
        action = {"verb": verb, **{_FIELDS.get(key, key): _plain(each) for key, each in details.items()}}
        return await self._granted(lambda grant: self._calls.act(grant, name or verb, action))

    async def _granted(self, ask: Callable[[str], Awaitable[Any]]) -> Any:
        """Ask with the grant that there is, and with a new one where that has ended."""
        if self._check is not None:
            self._check()
        if self._grant is not None:
            try:
                return await ask(self._grant)
            except RequestRefused as error:
                if error.code != "unauthenticated":
                    raise
        self._grant = await self.new_grant()
        return await ask(self._grant)

    async def new_grant(self) -> str:
        """Get a grant for what the event is about, or the firing. Called by the runtime."""
        if self._firing:
            return await self._calls.grant_firing(self._event_id, self._user)
        return await self._calls.grant(self._event_id)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


def _texts(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value.isoformat() if isinstance(value, date) else str(value)]


class ControlledCalls:
    """Calls of one agent, through `slotwire control`."""

    def __init__(
        self, database: Pool | Connection, control: ControlClient, *, agent: str, clock: Clock, mcp_url: str = ""
    ) -> None:
        """Take what it needs.

        Args:
            database: grants, and gives tokens.
            control: makes the calls.
            agent: the agent's name.
            clock: the time.
            mcp_url: the address of the MCP server, without a path; empty where there is none for agents.
        """
        self._database = database
        self._control = control
        self._agent = agent
        self._clock = clock
        self._mcp_url = mcp_url

    async def grant(self, event_id: UUID) -> str:
        """Get a grant for the calls of one event.

        Raises:
            RequestRefused: the log has no such event any more (`not_found`).
            DatabaseUnavailable: Postgres is away.
        """
        made, digest = _new_grant()
        with translated():
            found = await self._database.fetchval(
                _QUERIES["grant_calls"], digest, self._agent, event_id, self._clock.now()
            )
        if not found:
            raise RequestRefused(
                "the log does not have this event any more, so nothing can be asked for it", code="not_found"
            )
        return made

    async def grant_firing(self, firing_id: UUID, user: str | None) -> str:
        """Get a grant for the calls of one firing.

        Args:
            firing_id: its id.
            user: of a firing of the clock, as whom.

        Raises:
            RequestRefused: the firing is over, or the user is not connected (`not_found`).
            DatabaseUnavailable: Postgres is away.
        """
        made, digest = _new_grant()
        asked = (digest, self._agent, firing_id, user, self._clock.now())
        with translated():
            found = await self._database.fetchval(_FIRING_QUERIES["grant_firing_calls"], *asked)
        if not found:
            raise RequestRefused(
                "this firing is over, or the user is not connected in its organization: nothing can be asked for it",
                code="not_found",
                remedy="`slotwire connections list` names the users.",
            )
        return made

    async def call(self, grant: str, operation: str, values: Values) -> Any:
        """Make one call; see `EventCalendly.call`."""
        return await self._control.call(grant, operation, values)

    async def act(self, grant: str, name: str, action: Mapping[str, Any]) -> Any:
        """Do something; see `EventCalendly.act`."""
        return await self._control.act(grant, name, action)

    async def token_of_run(self, grant: str, run: UUID) -> RunToken:
        """Give a run a token of the MCP server; see `Context.mcp_token`."""
        if not self._mcp_url:
            raise ConfigurationError(
                "handlers have no way to the MCP server here",
                remedy="Set SLOTWIRE_MCP__PUBLIC_URL as `slotwire mcp serve` has it.",
            )
        now, token = self._clock.now(), PREFIX + secrets.token_urlsafe(32)
        digests = [hashlib.sha256(each.encode()).digest() for each in (token, grant)]
        with translated():
            given = await self._database.fetchrow(_QUERIES["give_mcp_run"], *digests, run, ordered_id(now), now)
        if given is None:
            raise RequestRefused(
                f"no agent of MCP is for runs of {self._agent}, or the event is about no booking of a connected user",
                code="not_granted",
                remedy=f"An operator registers one: slotwire mcp agents add NAME --runs-of {self._agent}",
            )
        return RunToken(f"{self._mcp_url}/mcp/{given['name']}", token, given["expires_at"])

    async def keep_run(self, run: UUID) -> bool:
        """Say that a run goes on; returns whether its tokens are still good."""
        with translated():
            return bool(await self._database.fetchval(_QUERIES["keep_mcp_run"], run, self._clock.now()))

    async def end_run(self, run: UUID) -> None:
        """End the tokens of a run."""
        with translated():
            await self._database.execute(_QUERIES["end_mcp_run"], run)


def _new_grant() -> tuple[str, bytes]:
    """Make a grant, and what is kept of it."""
    made = secrets.token_urlsafe(32)
    return made, hashlib.sha256(made.encode()).digest()


@dataclass
class MemoryCalls:
    """The Calendly of a trial.

    Attributes:
        answers: what a call answers, by its operation, and an action, by its verb: a test sets them.
        made: the calls that were made, each with its values.
        acted: the actions that were asked for, each with its name and what was to be done.
        mcp: the token that `ctx.mcp_token()` gives: a test sets it.
        mcp_runs: the runs that have a token and have not ended.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    made: list[tuple[str, Values]] = field(default_factory=list)
    acted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    mcp: RunToken | None = None
    mcp_runs: set[UUID] = field(default_factory=set)

    async def grant(self, event_id: UUID) -> str:
        """Grant anything."""
        return str(event_id)

    async def grant_firing(self, firing_id: UUID, user: str | None) -> str:
        """Grant anything."""
        return f"{firing_id} {user}"

    async def call(self, grant: str, operation: str, values: Values) -> Any:
        """Return what the test has set; an exception is raised."""
        del grant
        self.made.append((operation, values))
        return self._answer(operation)

    async def act(self, grant: str, name: str, action: Mapping[str, Any]) -> Any:
        """Return what the test has set for the verb; an exception is raised."""
        del grant
        self.acted.append((name, dict(action)))
        return self._answer(str(action["verb"]))

    async def token_of_run(self, grant: str, run: UUID) -> RunToken:
        """Return what the test has set."""
        del grant
        if self.mcp is None:
            raise RequestRefused(
                "this trial has no token of the MCP server",
                code="not_granted",
                remedy="Set one: trial.calendly.mcp = RunToken(url, token, expires_at)",
            )
        self.mcp_runs.add(run)
        return self.mcp

    async def keep_run(self, run: UUID) -> bool:
        """Say whether the run has not ended."""
        return run in self.mcp_runs

    async def end_run(self, run: UUID) -> None:
        """Note that it has."""
        self.mcp_runs.discard(run)

    def _answer(self, asked: str) -> Any:
        if asked not in self.answers:
            raise RequestRefused(
                f"this trial has no answer to {asked}",
                code="call_unknown",
                remedy=f'Set one: trial.calendly.answers["{asked}"] = …',
            )
        answer = self.answers[asked]
        if isinstance(answer, Exception):
            raise answer
        return answer
