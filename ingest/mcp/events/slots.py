"""Which subscriptions this process delivers: those of the slots that its session with Postgres holds locks of.

Each replica takes its share of the slots. One that is killed loses its session, and so its slots, at once; one that is
frozen loses them after `LEASE_SECONDS` of silence. Two that both believe to have a slot for a moment deliver doubles
with the same id, and one of them finds that the position has moved. The same session hears what others tell.
"""

from __future__ import annotations

from collections.abc import Callable

from slotwire.ingest.foundation.postgres import Session, close, connect, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.mcp.events.published import QUERIES
from slotwire.ingest.mcp.events.subscriptions import SLOTS

LEASE_SECONDS = 10
"""After so much silence the server ends the session."""
CHANNEL = "slotwire_mcp"
"""Where `slotwire.tell_mcp`, `slotwire.end_mcp_subscription` and the relay tell what is new."""
_CLOSE_SECONDS = 1.0


class DeliverySlots:
    """Takes and leaves slots.

    Attributes:
        mine: the slots that this process has.
    """

    def __init__(self, settings: Settings, heard: Callable[[str], object]) -> None:
        """Take the settings; `heard` is called with each notice that comes while the session lasts."""
        self.mine: frozenset[int] = frozenset()
        self._settings = settings
        self._heard = heard
        self._session: Session | None = None

    async def renew(self) -> frozenset[int]:
        """Show a sign of life, and take or leave slots until this process has its share; return those it has.

        Raises:
            DatabaseUnavailable: Postgres is away, and all slots with it.
        """
        try:
            return await self._renew()
        except BaseException:
            await self.leave()
            raise

    async def _renew(self) -> frozenset[int]:
        session = self._session
        if session is None or session.is_closed():
            self.mine = frozenset()
            session = self._session = await self._opened()
        with translated():
            replicas = max(await session.fetchval(QUERIES["count_replicas"]), 1)
            share = -(-SLOTS // replicas)
            if len(self.mine) > share:
                left = sorted(self.mine)[share:]
                await session.execute(QUERIES["leave_slots"], left)
                self.mine -= frozenset(left)
            elif len(self.mine) < share:
                wanted = sorted(set(range(SLOTS)) - self.mine)
                rows = await session.fetch(QUERIES["take_slots"], wanted, share - len(self.mine))
                self.mine |= {row["slot"] for row in rows}
        return self.mine

    async def _opened(self) -> Session:
        session = await connect(
            self._settings.database_url.get_secret_value(), self._settings.database, application="mcp-delivery"
        )
        try:
            with translated():
                await session.execute(QUERIES["end_in_silence"], f"{LEASE_SECONDS}s")
                await session.execute(QUERIES["join_replicas"])
                await session.add_listener(CHANNEL, self._notice)
        except BaseException:
            session.terminate()
            raise
        return session

    def _notice(self, _connection: object, _pid: int, _channel: str, told: object) -> None:
        self._heard(str(told))

    async def leave(self) -> None:
        """Leave all slots."""
        session, self._session, self.mine = self._session, None, frozenset()
        if session is not None:
            await close(session, seconds=_CLOSE_SECONDS)
