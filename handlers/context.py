"""What a handler gets beside the event."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from slotwire.handlers.database import DatabaseConnection
from slotwire.handlers.inbox import AlreadyDone, Inbox
from slotwire.schemas.envelope import Event

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


@dataclass
class Context:
    """One run of a handler.

    Attributes:
        event: the event, the same that the handler got.
        agent: the agent's name.
        attempt: 1 for the first run; runs that were interrupted do not count.
        idempotency_key: the same in every run for this event by this agent. Give it to services outside:
            after a lost membership two runs may overlap there.
        published_at: when the record was written to Kafka.
        started_at: when this run began.
        log: a logger that names the agent and the event. Never log personal data.
    """

    event: Event[Any]
    agent: str
    attempt: int
    idempotency_key: str
    published_at: datetime
    started_at: datetime
    log: FilteringBoundLogger
    inbox: Inbox = field(repr=False)
    committed: bool = field(default=False, init=False)
    already_done: bool = field(default=False, init=False)
    _open: bool = field(default=False, init=False, repr=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[DatabaseConnection, None]:
        """Open a transaction of Postgres whose commit is also the mark that the event is done.

        The mark goes in first: a second owner of the event waits for it, then skips. Writes of the block and
        the mark commit together when the block ends; to undo both, raise. One transaction a run, short: the
        server ends it after `SLOTWIRE_DATABASE__STATEMENT_TIMEOUT_SECONDS` without work.

        Yields:
            The connection to write with.

        Raises:
            AlreadyDone: another run committed; let it pass, the event is skipped.
            DatabaseUnavailable: let it pass, the event is tried again and no attempt is burnt.
            RuntimeError: a second transaction in one run.
        """
        if self.committed or self._open:
            raise RuntimeError("one run has one transaction: its commit marks the event as done")
        self._open = True
        try:
            async with self.inbox.transaction(self.event.id) as connection:
                yield connection
        except AlreadyDone:
            self.already_done = True
            raise
        finally:
            self._open = False
        self.committed = True
