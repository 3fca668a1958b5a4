"""Who leads a shard: a lock that lives exactly as long as one connection to Postgres.

The lock chooses one leader, and no more: a leader that slept is kept from writing by the head of the log, and from
publishing by the broker (`publisher`). Its heartbeat runs in a thread of its own, so that work which holds up the event
loop, a hundred large bodies for example, does not cost the lead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from slotwire.ingest.errors import DatabaseUnavailable, SlotwireError
from slotwire.ingest.foundation.postgres import Connection, Session, close, connect, read_queries, translated
from slotwire.ingest.foundation.settings import Settings

QUERIES = read_queries("slotwire.ingest.sql", "relay.sql")
CHANNEL = "slotwire_log"
"""Notified after each commit of something accepted, with the shard as payload. A hint: the log is asked anyway."""
HANDOVER_CHANNEL = "slotwire_lease"
"""A leader that stops notifies it, so that a standby does not wait for its next look."""
LEASE_SECONDS = 6.0
"""A leader that gives no sign of life for so long loses its connection, and with it the lock."""
HEARTBEAT_SECONDS = 1.5
STANDBY_SECONDS = 1.0
"""How often a standby tries the lock, on the one connection it keeps."""
CLOSE_SECONDS = 1.0


class _Keeper(threading.Thread):
    """Waits for the lock, holds it and gives signs of life, on a connection and an event loop of its own."""

    def __init__(self, settings: Settings, shard: int, tell: Callable[[str, SlotwireError | None], None]) -> None:
        super().__init__(name=f"lease-{shard}", daemon=True)
        self._settings = settings
        self._shard = shard
        self._tell = tell
        self._loop = asyncio.new_event_loop()
        self._ending: asyncio.Event | None = None
        self._ready = threading.Event()

    def run(self) -> None:
        """Run until asked to stop, or until the connection is gone."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            problem: SlotwireError | None = None
            try:
                runner.run(self._keep())
            except SlotwireError as error:
                problem = error
            finally:  # whatever ended it, the lock is gone
                self._tell("lost", problem)
                self._ready.set()

    def end(self) -> None:
        """Let go of the lock and end the thread; may be called from any thread, more than once."""
        self._ready.wait()
        if self._ending is not None and not self._loop.is_closed():
            with suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._ending.set)

    async def confirm(self) -> None:
        """Ask Postgres whether the lock still holds; called from the loop of the process.

        Raises:
            DatabaseUnavailable: it does not, or the thread has ended.
        """
        asking = self._sign_of_life()
        try:
            asked = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asking, self._loop))
        except RuntimeError as error:  # its loop is closed
            asking.close()
            raise _lost() from error
        # Neither end of the question may cancel the other: the thread may end, and so may the task that asks.
        await asyncio.wait([asked], timeout=LEASE_SECONDS)
        if not asked.done() or asked.cancelled():
            raise _lost()
        asked.result()

    async def _keep(self) -> None:
        self._ending = asyncio.Event()
        self._ready.set()
        dsn = self._settings.database_url.get_secret_value()
        self._connection = await connect(dsn, self._settings.database, application="lease")
        self._in_use = asyncio.Lock()
        try:
            if not await self._taken():
                return
            self._connection.add_termination_listener(lambda _: self._tell("lost", None))
            self._tell("taken", None)
            while not self._ending.is_set():
                await self._sign_of_life()
                await _wait(self._ending, HEARTBEAT_SECONDS)
            with translated():
                await self._connection.execute(QUERIES["hand_over"], str(self._shard))
        finally:
            await close(self._connection, seconds=CLOSE_SECONDS)

    async def _taken(self) -> bool:
        """Wait for the lock; False when a stop comes first."""
        stop, bell = self._ending, asyncio.Event()
        assert stop is not None  # noqa: S101 - set by _keep before this is called
        with translated():
            await self._connection.add_listener(HANDOVER_CHANNEL, lambda *_: bell.set())
        while not stop.is_set():
            bell.clear()  # before the attempt: who lets go during it rings for the next one
            with translated():
                lease = str(int(LEASE_SECONDS * 1000))
                if await self._connection.fetchval(QUERIES["take_lease"], self._shard, lease):
                    return True
            self._tell("standby", None)
            tasks = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(bell.wait())]
            await asyncio.wait(tasks, timeout=STANDBY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        return False

    async def _sign_of_life(self) -> None:
        async with self._in_use:
            with translated():
                await self._connection.fetchval(QUERIES["hold_lease"])
            self._connection.require_writable()  # the lock is of no use where nothing can be written


class Lease:
    """The right to lead one shard, with a connection for its work. Only `waiting` makes one.

    Attributes:
        shard: which shard.
        lost: set as soon as the lock or the connection is known to be gone.
        woken: set when somebody says that there is something new.
    """

    def __init__(
        self, connection: Session, shard: int, keeper: _Keeper, lost: asyncio.Event, woken: asyncio.Event
    ) -> None:
        self._connection = connection
        self._keeper = keeper
        self._in_use = asyncio.Lock()
        self.shard = shard
        self.lost = lost
        self.woken = woken

    @classmethod
    @asynccontextmanager
    async def waiting(
        cls, settings: Settings, shard: int, stop: asyncio.Event, *, standing_by: Callable[[], None] = lambda: None
    ) -> AsyncIterator[Lease | None]:
        """Wait until this process leads the shard, then lead while the block runs; yields None when a stop comes first.

        Args:
            settings: where Postgres is.
            shard: which shard.
            stop: ends the waiting.
            standing_by: is called when somebody else leads.

        Raises:
            DatabaseUnavailable: Postgres is out of reach.
            SchemaMismatch: the log has not been made yet.
        """
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[bool] = loop.create_future()
        lost, woken = asyncio.Event(), asyncio.Event()

        def heard(what: str, problem: SlotwireError | None) -> None:
            if what == "standby":
                standing_by()
            elif what == "taken" and not taken.done():
                taken.set_result(True)
            elif what == "lost":
                if not taken.done():
                    taken.set_exception(problem or _lost())
                lost.set()
                woken.set()

        def tell(what: str, problem: SlotwireError | None) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(heard, what, problem)

        keeper = _Keeper(settings, shard, tell)
        keeper.start()
        connection: Session | None = None
        try:
            stopping: asyncio.Future[bool] = asyncio.ensure_future(stop.wait())
            await asyncio.wait([taken, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not taken.done():
                yield None
                return
            taken.result()
            dsn = settings.database_url.get_secret_value()
            connection = await connect(dsn, settings.database, application="relay")
            lease = cls(connection, shard, keeper, lost, woken)
            connection.add_termination_listener(lease._on_end)
            with translated():
                await connection.add_listener(CHANNEL, lease._on_notice)
            yield lease
        finally:
            if taken.done() and not taken.cancelled():
                taken.exception()  # whoever stops does not ask for it any more
            taken.cancel()
            keeper.end()
            if connection is not None:
                await close(connection, seconds=CLOSE_SECONDS)
            await asyncio.to_thread(keeper.join, CLOSE_SECONDS * 2)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """Use the lease's connection, one user at a time.

        Raises:
            DatabaseUnavailable: it is gone, and the lease with it.
        """
        async with self._in_use:
            if self.lost.is_set():
                raise _lost()
            try:
                with translated():
                    yield self._connection
            except DatabaseUnavailable as error:
                if self._connection.is_closed() or self._connection.read_only:
                    self.end()
                    raise _lost() from error
                raise

    async def confirm(self) -> None:
        """Ask Postgres whether the lock still holds.

        Raises:
            DatabaseUnavailable: it does not.
        """
        if self.lost.is_set():
            raise _lost()
        await self._keeper.confirm()

    async def guard(self) -> None:
        """Return never.

        Raises:
            DatabaseUnavailable: the lease is lost.
        """
        await self.lost.wait()
        raise _lost()

    def end(self) -> None:
        """The lock or the connection is gone."""
        self.lost.set()
        self.woken.set()

    def _on_end(self, _: Any) -> None:
        self.end()

    def _on_notice(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == str(self.shard):
            self.woken.set()


def _lost() -> DatabaseUnavailable:
    return DatabaseUnavailable("the relay's connection to Postgres ended: it leads no more", reason="lease_lost")


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
