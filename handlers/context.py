"""The second argument of every handler."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from slotwire.handlers.database import DatabaseConnection
from slotwire.handlers.firings import Firing, FiringData, Moment
from slotwire.handlers.long_work.approvals import Decision, approval
from slotwire.handlers.long_work.endings import Suspended
from slotwire.handlers.long_work.journal import idempotency_key
from slotwire.handlers.long_work.steps import RUN_IS_OVER, Run
from slotwire.handlers.reach.bookings import OrganizationBookings
from slotwire.handlers.reach.calendly import Calls, EventCalendly
from slotwire.handlers.reach.chains import BookingChain, Chains, ChainState
from slotwire.handlers.reach.mcp_tokens import RunToken, RunTokens
from slotwire.handlers.settle.inbox import AlreadyDone, Inbox, NotCommitted
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

T = TypeVar("T")
D = TypeVar("D", bound=EventData)

_NOT_ENTERED = "its transaction was never begun: write `async with ctx.transaction() as connection:`"
_STILL_OPEN = "its transaction was open when the handler ended, and was undone: await what opens it"
_OTHER_LOOP = (
    "the context belongs to the event loop of the handler: use it there, before or after the thread, or from the thread"
    " by asyncio.run_coroutine_threadsafe(…, loop)"
)
_BLOCK_RAISED = "its transaction was rolled back, and the handler caught what its block had raised"


@dataclass
class Context:
    """One run of a handler.

    Attributes:
        event: the event, the same object as the handler's first argument.
        agent: the agent's name.
        attempt: 1 for the first run. Interrupted runs do not count.
        published_at: when the record was written to Kafka.
        started_at: when this run began.
        clock: the time; in a trial it is the test's.
        chains: what is known of the event's chain; `booking()` and `state` use it.
        calls: makes calls to Calendly; `calendly` uses it.
        inbox: what the agent has settled; `transaction()` uses it.
        version: the agent's; empty where it has none.
        redriven: whether this is a dead letter that an operator drives again.
        newer_position: of a redriven one: the position in the log of the newest event of its key that this agent has
            done since it gave this one up; None if there is none.
        edited: whether an operator edited the data of a redriven one.
        run: the run's journal; `step()` and `wait_for()` use it.
        committed: whether `transaction()` has committed in this run.
        already_done: whether `transaction()` found that another run has had the effect.
        not_committed: why `transaction()` was not committed; None if it was not opened, or was committed.
    """

    event: Event[Any]
    agent: str
    attempt: int
    published_at: datetime
    started_at: datetime
    clock: Clock
    inbox: Inbox = field(repr=False)
    chains: Chains = field(repr=False)
    calls: Calls = field(repr=False)
    version: str = ""
    redriven: bool = False
    newer_position: int | None = None
    edited: bool = False
    run: Run | None = field(default=None, repr=False)
    committed: bool = field(default=False, init=False)
    already_done: bool = field(default=False, init=False)
    not_committed: str | None = field(default=None, init=False)
    _open: bool = field(default=False, init=False, repr=False)
    _ended: bool = field(default=False, init=False, repr=False)
    _connection: DatabaseConnection | None = field(default=None, init=False, repr=False)
    _state: ChainState | None = field(default=None, init=False, repr=False)
    _tokens: RunTokens | None = field(default=None, init=False, repr=False)

    @cached_property
    def log(self) -> FilteringBoundLogger:
        """A logger that adds the agent and the event. Never log personal data."""
        event, version = self.event, {"version": self.version} if self.version else {}
        of_event = {"event_id": str(event.id), "type": event.type, "organization": event.organization}
        return get_logger("handlers", agent=self.agent, **version, **of_event)

    @property
    def state(self) -> ChainState:
        """What the agent remembers of the event's chain."""
        if self._state is None:
            self._state = ChainState(self.chains, self.organization, self.event.key, self._check)
            if self._connection is not None:
                self._state.opened(self._connection)
        return self._state

    @cached_property
    def calendly(self) -> EventCalendly:
        """Reads what belongs to the event's meeting, or to the user who hosts it.

        For a firing of the clock: what belongs to the user that `calendly.as_user(…)` names.
        """
        firing = isinstance(self.event.data, FiringData)
        return EventCalendly(self.calls, self.event.id, firing=firing, check=self._check)

    @property
    def idempotency_key(self) -> str:
        """The same in every run of this agent for this event.

        Pass it to other services: after a lost membership two runs may overlap there.
        """
        return idempotency_key(self.agent, self.event.id)

    @property
    def organization(self) -> str:
        """The organization's identifier: the last segment of its URI."""
        return self.event.organization

    @property
    def tenant(self) -> str | None:
        """Your own name for the organization, if you gave it one (`external_id`)."""
        return self.event.tenant

    @property
    def bookings(self) -> OrganizationBookings:
        """The bookings of the organization, beyond the event's chain: what is booked, and what has changed."""
        self._check()
        return OrganizationBookings(self.chains.beyond, self.organization)

    async def booking(self) -> BookingChain | None:
        """Read the booking that the event is about, as it is now, and its chain so far.

        Returns:
            None where the event is about no booking.

        Raises:
            DatabaseUnavailable: Postgres is away. Do not catch it.
        """
        self._check()
        chain = await self.chains.bookings(self.organization, self.event.subject, self._connection)
        found = next((each for each in chain if each.invitee == self.event.subject), None)
        return None if found is None else BookingChain(found, chain)

    async def is_current(self, firing: Firing) -> bool:
        """Whether a moment still belongs to its booking: it is active, and at the time that it was at.

        Asked before each run of a moment's function; ask again where the run takes long.

        Raises:
            DatabaseUnavailable: Postgres is away. Do not catch it.
        """
        if not isinstance(firing, Moment):
            return True
        self._check()
        found = await self.chains.times(self.organization, self.event.subject, self._connection)
        if found is None or found.state != "active":
            return False
        if firing.kind == "after_end":
            return found.end_time == firing.end_time
        return found.start_time == firing.start_time

    async def mcp_token(self) -> RunToken:
        """Get a token of the MCP server for a model that reads what strangers typed: it reaches this chain only.

            mcp = await ctx.mcp_token()
            http = create_mcp_http_client(headers={"Authorization": f"Bearer {mcp.token}"})
            async with http, Client(streamable_http_client(mcp.url, http_client=http)) as client:
                ...

        It acts as the first host of the meeting who is connected, with the tools that an operator gave to the agent of
        MCP that is for runs of this agent (`slotwire mcp agents add NAME --runs-of AGENT`), as far as they are about
        this chain of bookings. It ends when this run does, however it does, or has committed its `transaction()`; 15 s
        after its process has died; and after 15 minutes. Call this again for another one.

        Raises:
            RequestRefused: there is no such agent of MCP, or the event is about no booking of a connected user.
            ConfigurationError, DatabaseUnavailable: do not catch them: the event is then tried again, and the run does
                not count as an attempt.
            RuntimeError: the run has ended.
        """
        self._check()
        if self._tokens is None:
            self._tokens = RunTokens(self.calls, self.calendly.new_grant, self.clock)
        return await self._tokens.get()

    def end(self) -> RunTokens | None:
        """End what ends with the run; returns the tokens that have to be ended, too. Called by the runtime.

        A transaction that is open is undone: what has left it behind cannot commit it any more.
        """
        self._ended = True
        if self._connection is not None:
            self.inbox.undo(self.event.id, self._connection)
        if self.run is not None:
            self.run.over = True
        return self._tokens

    def transaction(self) -> AbstractAsyncContextManager[DatabaseConnection]:
        """Open a transaction in Postgres whose commit also marks the event as done.

        The mark is inserted first, so that another member with the same event waits for it and then skips the event.
        When the block ends, your writes and the mark are committed together. To undo both, raise an exception inside
        the block. Open at most one transaction per run and keep it short: the server ends it after
        `SLOTWIRE_DATABASE__STATEMENT_TIMEOUT_SECONDS` without work.

        Yields:
            The connection. It is asyncpg's, typed as `DatabaseConnection`.

        Raises:
            AlreadyDone: another run has committed. Do not catch it: the event is then skipped.
            DatabaseUnavailable: Postgres is away. Do not catch it: the event is then tried again, and the run does not
                count as an attempt.
            NotCommitted: the block ended, but not its transaction: an error of a statement was caught in it, so that
                Postgres undid everything. The run has failed, whatever catches this. `async with
                connection.transaction()` inside the block undoes a part instead.
            RuntimeError: this run has opened a transaction before.
        """
        if not self.committed and self.not_committed is None:
            self.not_committed = _NOT_ENTERED
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[DatabaseConnection, None]:
        self._check()
        if self.committed or self._open:
            raise RuntimeError("a run can open one transaction only: its commit marks the event as done")
        if self.run is not None and await self.run.complete() is not None:
            raise Suspended
        self._open, self.not_committed = True, _STILL_OPEN
        try:
            async with self.inbox.transaction(self.event.id) as connection:
                self._check()
                self._connection = connection
                if self._state is not None:
                    self._state.opened(connection)
                yield connection
                if self._state is not None:
                    await self._state.written(connection)
        except AlreadyDone:
            self.already_done = True
            raise
        except NotCommitted as error:
            self.not_committed, self.committed = error.reason, error.marked
            raise
        except BaseException:
            self.not_committed = _BLOCK_RAISED
            raise
        finally:
            self._open = False
            self._connection = None
            if self._state is not None:
                self._state.closed()
        self.committed = True
        self.not_committed = None

    async def step(
        self, name: str, fn: Callable[[str], Awaitable[T]], *, on_unknown: Literal["raise", "retry"] = "raise"
    ) -> T:
        """Do something outside once, and remember what it returned: later runs of this event get that instead.

            charge = await ctx.step("charge", lambda key: payments.charge(amount, idempotency_key=key))

        That it begins is committed before `fn` is called, and what it returned afterwards. If `fn` raises, it has not
        happened: the run fails, and the next one calls it again with the same key. If the process ends in between,
        nobody knows: the next run raises `StepOutcomeUnknown` as soon as nobody can be at work on it any more, or with
        `on_unknown="retry"` calls `fn` again with the same key.

        Args:
            name: of the step, once in a run. Every run must come to the same steps and waits in the same order.
            fn: called with the step's idempotency key; pass that to the other service.
            on_unknown: `retry` where the other service knows the key, or a second time does no harm.

        Returns:
            What `fn` returned, as JSON has it: at most 64 KiB (`MAX_RESULT_BYTES`).

        Raises:
            StepOutcomeUnknown: see above. If the handler does not catch it, the run is held for a person.
            StepResultTooLarge: `fn` was called, and what it returned cannot be kept.
            RuntimeError: inside of or after `transaction()`, or during another step.
        """
        return await self._journaled().step(name, fn, on_unknown=on_unknown)

    async def wait_for(
        self,
        *classes: type[D],
        where: Callable[[Event[D]], bool] | None = None,
        timeout: timedelta,  # noqa: ASYNC109 - of days, over many runs
        name: str | None = None,
    ) -> Event[D] | None:
        """Wait for a later event of the same chain, for days if need be: the run is set aside until then.

            canceled = await ctx.wait_for(InviteeCanceled, timeout=timedelta(days=2))

        The wait and this event are committed, then the run ends, and later events are handled meanwhile. When one of
        these classes comes, or the time is over, the handler runs again from the top: its steps answer from the
        journal, and this call returns. So write nothing between steps that must not run again.

        Args:
            classes: which events may answer; the agent need not have a handler for them.
            where: which of them does: True or False, from the event alone.
            timeout: after which time it ends anyway, at most 366 days.
            name: of the wait, once in a run. Default: made of the classes' names.

        Returns:
            The event, or None after the time.

        Raises:
            ValueError: no event of these classes could answer: their topic has other keys.
            RuntimeError: inside of or after `transaction()`, or during a step.
        """
        named = (
            name if name is not None else "wait for " + " or ".join(getattr(cls, "__name__", "?") for cls in classes)
        )
        return await self._journaled().wait_for(classes, name=named, where=where, timeout=timeout)

    async def approval(
        self,
        name: str,
        *,
        what: object,
        person: str,
        timeout: timedelta,  # noqa: ASYNC109 - of days, over many runs
    ) -> Decision:
        """Ask for an approval: the run is set aside until an operator of the event's organization decides.

            refund = await ctx.approval("refund", what={"amount": 70}, person="finance", timeout=timedelta(days=1))

        They decide with `slotwire agents approvals` or `/v1/approvals`. This process cannot.

        Args:
            name: of the approval, once in a run.
            what: is to be approved, as JSON: the same in every run. They see it, and decide about no other.
            person: who is asked, in words that they understand.
            timeout: after which time nobody can decide any more, at most 366 days.

        Raises:
            ValueError: an argument is out of bounds.
            RuntimeError: inside of or after `transaction()`, or during a step.
        """
        return await approval(self._journaled(), name, what, person, timeout)

    def _check(self) -> None:
        """Refuse what is left of a run that is over, and another thread's loop: connections belong to ours."""
        if self._ended:
            raise RuntimeError(RUN_IS_OVER)
        if not self.inbox.is_here:
            raise RuntimeError(_OTHER_LOOP)

    def _journaled(self) -> Run:
        self._check()
        if self._open or self.committed:
            where = "inside of" if self._open else "after"
            raise RuntimeError(f"no step or wait {where} ctx.transaction(): its commit marks the event as done")
        if self.run is None:
            raise RuntimeError("this context has no journal")
        return self.run
