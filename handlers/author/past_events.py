"""`slotwire agents try`: one event of the log through a handler, its statements shown and rolled back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import Any
from uuid import UUID

from slotwire.handlers.author.shown_runs import lines_of
from slotwire.handlers.context import Context
from slotwire.handlers.database import DatabaseConnection, DatabaseRow
from slotwire.handlers.dispatch.attempt import FailedRun, RunResult, SuccessfulRun, UncountedRun, run_once
from slotwire.handlers.dispatch.runs import Work
from slotwire.handlers.long_work.endings import HeldRun, ParkedRun
from slotwire.handlers.long_work.steps import Run
from slotwire.handlers.long_work.trial_journal import MemoryJournal
from slotwire.handlers.reach.calendly import ControlledCalls
from slotwire.handlers.reach.chains import PostgresChains
from slotwire.handlers.reach.mcp_tokens import RunToken
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.registry import Agent
from slotwire.handlers.settle.dead_letters import GiveUpReason
from slotwire.handlers.settle.inbox import NotCommitted
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.control_client import ControlClient
from slotwire.ingest.foundation.errors import RequestRefused
from slotwire.ingest.foundation.event_rows import attributes_of
from slotwire.ingest.foundation.postgres import Connection, read_queries, translated
from slotwire.schemas.codec import decode, encode_headers
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData

MAX_SHOWN = 200
"""Characters of a statement or of its arguments that are shown."""
_QUERIES = read_queries("slotwire.handlers.sql", "inbox.sql")


async def past_event(connection: Connection, event_id: UUID) -> Event[EventData]:
    """Read an event of the log.

    Raises:
        RequestRefused: the log has none with this id (`not_found`).
        DatabaseUnavailable: Postgres is away.
    """
    with translated():
        row = await connection.fetchrow(_QUERIES["event"], event_id)
    if row is None:
        raise RequestRefused(
            "the log has no event with this id",
            code="not_found",
            remedy="`slotwire agents dev` prints the id of each event, `slotwire events list` lists them.",
        )
    return decode(encode_headers(attributes_of(row, event_id)), row["data"])


async def try_event(
    agent: Agent,
    event: Event[Any],
    connection: Connection,
    *,
    control: ControlClient,
    clock: Clock,
    say: Callable[[str], None],
) -> bool:
    """Run an agent's handler once for an event, and undo what it wrote to this database.

    What it does elsewhere is done: calls to other services are made.

    Args:
        agent: the agent.
        event: the event.
        connection: of the agents' role; in no transaction.
        control: makes its calls to Calendly.
        clock: for the run.
        say: told each statement with what came of it, and what was answered.

    Returns:
        Whether the handler succeeded.

    Raises:
        RequestRefused: the agent has no handler for events of this type (`type_unhandled`).
    """
    if event.type not in agent.handlers:
        raise RequestRefused(
            f"agent {agent.name} has no handler for {event.type}",
            code="type_unhandled",
            remedy=f"It handles: {', '.join(agent.handlers)}.",
        )
    context = Context(
        event=event,
        agent=agent.name,
        attempt=1,
        published_at=event.recorded_time or event.time,
        started_at=clock.now(),
        clock=clock,
        inbox=_TriedInbox(connection, say),
        chains=PostgresChains(connection, agent=agent.name, clock=clock),
        calls=_TriedCalls(ControlledCalls(connection, control, agent=agent.name, clock=clock), say),
        run=_tried_run(agent, event, clock),
    )
    began = monotonic()
    run = await run_once(agent, context)
    answer, succeeded = _answer(run)
    for line in answer:
        say(line)
    say(f"{(monotonic() - began) * 1000:.1f} ms; nothing was committed")
    return succeeded


def _tried_run(agent: Agent, event: Event[Any], clock: Clock) -> Run:
    """Make a run whose journal is forgotten: its steps are done, and a wait ends the trial."""
    record = Record(Partition("past", 0), event.sequence, event.key.encode(), None, (), event.time)
    work = Work(record, event)
    work.begin(agent, MemoryJournal(clock), clock, asyncio.Event())
    return work.run


def _answer(run: RunResult) -> tuple[list[str], bool]:
    succeeded = isinstance(run, SuccessfulRun | ParkedRun)
    match run:
        case SuccessfulRun(filtered=filtered):
            said = "answered: its filter leaves this event out" if filtered else "answered: done"
        case ParkedRun():
            said = "answered: waits for a later event of its chain"
        case UncountedRun(problem):
            said = f"not answered: {problem.in_one_line}"
        case FailedRun(pause=None):
            return ["answered: failed", *(f"  {line}" for line in lines_of(run))], succeeded
        case FailedRun():
            said = f"answered: Retry(after={run.pause:g})"
        case GiveUpReason():
            said = f"answered: given up: {run.reason}"
        case HeldRun():
            said = f"answered: held as {run.state}: {run.reason}"
        case _:  # pragma: no cover - nobody else has its journal
            raise AssertionError
    return [said], succeeded


class _TriedCalls:
    """Calls that read at Calendly, and actions that are shown and not asked for."""

    def __init__(self, calls: ControlledCalls, say: Callable[[str], None]) -> None:
        self._calls = calls
        self._say = say

    async def grant(self, event_id: UUID) -> str:
        """Get a grant for the calls of one event."""
        return await self._calls.grant(event_id)

    async def grant_firing(self, firing_id: UUID, user: str | None) -> str:
        """Get a grant for the calls of one firing."""
        return await self._calls.grant_firing(firing_id, user)

    async def call(self, grant: str, operation: str, values: Mapping[str, Sequence[str]]) -> Any:
        """Make one call."""
        return await self._calls.call(grant, operation, values)

    async def act(self, grant: str, name: str, action: Mapping[str, Any]) -> Any:
        """Show what would be done."""
        del grant
        self._say(f"  at Calendly, not asked for: {name}: {_shortened(dict(action))}")
        return {"state": "done"}

    async def token_of_run(self, grant: str, run: UUID) -> RunToken:
        """Give none.

        Raises:
            RequestRefused: always.
        """
        del grant, run
        raise RequestRefused(
            "an event that is tried gets no token of the MCP server: what its tools do cannot be taken back",
            code="not_granted",
        )

    async def keep_run(self, run: UUID) -> bool:
        """Say that there is none."""
        del run
        return False

    async def end_run(self, run: UUID) -> None:
        """End nothing."""


class _TriedInbox:
    """An inbox in which nothing is settled, and whose transactions are rolled back."""

    def __init__(self, connection: Connection, say: Callable[[str], None]) -> None:
        self._connection = connection
        self._say = say
        self._loop = asyncio.get_running_loop()

    @property
    def is_here(self) -> bool:
        """Whether the running loop is the connection's."""
        return asyncio.get_running_loop() is self._loop

    async def seen(self, event_id: UUID) -> bool:
        """Say that no event was settled."""
        del event_id
        return False

    async def mark(self, event_id: UUID) -> None:
        """Mark nothing."""

    def undo(self, event_id: UUID, connection: DatabaseConnection) -> None:
        """End the transaction that a run has left behind."""
        del event_id, connection
        self._connection.terminate()

    async def data_of(self, event_id: UUID) -> bytes | None:
        """Fetch the data of an event whose record was published without it."""
        with translated():
            data: bytes | None = await self._connection.fetchval(_QUERIES["data_of_event"], event_id)
        return data

    @asynccontextmanager
    async def transaction(self, event_id: UUID) -> AsyncGenerator[DatabaseConnection, None]:
        """Open a transaction, and roll it back at its end."""
        del event_id
        with translated():
            transaction = self._connection.transaction()
            await transaction.start()
        try:
            yield ShownConnection(self._connection, self._say)
            failed = self._connection.is_in_transaction() and await _has_failed(self._connection)
            if failed:
                raise NotCommitted("its transaction has failed: the handler caught the error of a statement")
        finally:
            if not self._connection.is_closed():
                with translated():
                    await transaction.rollback()
                self._say("  rolled back")


async def _has_failed(connection: Connection) -> bool:
    """Say whether Postgres commits nothing any more in the open transaction."""
    try:
        await connection.fetchval("SELECT 1")
    except Exception as error:
        if getattr(error, "sqlstate", None) == "25P02":
            return True
        raise
    return False


class ShownConnection:
    """A connection that tells each statement, its arguments and what came of it. Its other methods are asyncpg's."""

    def __init__(self, connection: Any, say: Callable[[str], None]) -> None:
        self._connection = connection
        self._say = say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, query: str, /, *args: Any, **options: Any) -> str:
        """Run a statement; returns its command tag."""
        self._told(query, args)
        tag: str = await self._connection.execute(query, *args, **options)
        self._say(f"    {tag}")
        return tag

    async def executemany(self, command: str, /, args: Iterable[Sequence[Any]], **options: Any) -> None:
        """Run a statement once for each sequence of arguments."""
        rows = list(args)
        self._told(command, (f"{len(rows)} times",))
        await self._connection.executemany(command, rows, **options)

    async def fetch(self, query: str, /, *args: Any, **options: Any) -> Sequence[DatabaseRow]:
        """Run a query; returns all its rows."""
        self._told(query, args)
        rows: Sequence[DatabaseRow] = await self._connection.fetch(query, *args, **options)
        self._say(f"    {len(rows)} rows")
        return rows

    async def fetchrow(self, query: str, /, *args: Any, **options: Any) -> DatabaseRow | None:
        """Run a query; returns its first row."""
        self._told(query, args)
        row: DatabaseRow | None = await self._connection.fetchrow(query, *args, **options)
        self._say(f"    {_shortened(row)}")
        return row

    async def fetchval(self, query: str, /, *args: Any, column: int = 0, **options: Any) -> Any:
        """Run a query; returns one column of its first row."""
        self._told(query, args)
        value = await self._connection.fetchval(query, *args, column=column, **options)
        self._say(f"    {_shortened(value)}")
        return value

    def transaction(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        """Open a savepoint."""
        return self._connection.transaction(**options)  # type: ignore[no-any-return]  # asyncpg's own object

    def _told(self, query: str, args: Sequence[Any]) -> None:
        self._say(f"  {_shortened(' '.join(query.split()))}")
        if args:
            self._say(f"    {_shortened(', '.join(map(str, args)))}")


def _shortened(value: object) -> str:
    text = "".join(each if each.isprintable() else "�" for each in str(value))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
