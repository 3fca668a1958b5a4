"""Grants between Calendly's answer and the commit that stores them: each has a row that says who gives it back.

    begun ──Calendly's answer──▶ held ──▶ stored: the connection's own transaction takes the row away
      │                           │ ──▶ waits for the integrator's backend, and is held again once that has asked
      │ the process died          │ the flow stopped, Postgres failed, or the process died
      ▼                           ▼
    lost, and said so         revoked, and its link is good again

The row is committed before the code is exchanged, so there is one grant per link. Only a process that dies between
Calendly's answer and the next commit leaves a grant at Calendly: its tokens are nowhere, and the log names the link.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from slotwire.ingest.control.calendly_client.oauth import OAuthClient, TokenPair
from slotwire.ingest.control.calendly_client.uses import Bearer
from slotwire.ingest.control.connect_links import ConnectLink, digest, pending_context
from slotwire.ingest.control.connection_store import HeldGrant
from slotwire.ingest.errors import DatabaseUnavailable, SecretUnreadable, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.vault import Vault
from slotwire.schemas.ids import last_segment

HELD_LIFE = timedelta(minutes=5)
"""How long a flow may have a grant in hand: longer than it may take. Then the grant is given back."""
PENDING_LIFE = timedelta(minutes=10)
"""How long the integrator's backend may take to present the code."""
GIVE_BACK_AGAIN = timedelta(minutes=1)
"""How soon a grant that Calendly did not take back is tried again."""
GIVE_UP = timedelta(days=1)
"""After this a grant that Calendly does not take back is left there, and the log says so."""
KEEP_SECONDS = 15.0
"""How long a grant that Calendly just gave is tried to be kept; then it is given back."""
KEEP_AGAIN_SECONDS = 0.5

_SQL = read_queries("slotwire.ingest.sql", "oauth.sql")
_log = get_logger("oauth")


@dataclass(frozen=True, slots=True)
class HeldGrants:
    """The rows, and what is done at Calendly about them."""

    pool: Pool
    clock: Clock
    vault: Vault
    client: OAuthClient
    keep_seconds: float = KEEP_SECONDS

    async def begin(self, link: ConnectLink) -> HeldGrant | None:
        """Commit that a grant is about to be asked for; None while another flow of this link has one."""
        mark, now = digest(secrets.token_hex(32)), self.clock.now()
        with translated():
            row = await self.pool.fetchrow(_SQL["begin_grant"], link.id, mark, now, now + HELD_LIFE)
        return None if row is None else HeldGrant(link.id, mark)

    async def drop(self, held: HeldGrant) -> None:
        """Forget a grant that was not given, or that Calendly has taken back; its link is good again."""
        with translated():
            await self.pool.execute(_SQL["drop_grant"], held.link_id, held.mark)

    async def keep(self, held: HeldGrant, pair: TokenPair) -> bool:
        """Seal and store what Calendly gave, also if Postgres is away for a moment.

        Returns:
            whether it is stored; if not, it was given back.

        Raises:
            SlotwireError: it cannot be stored, whether Postgres is away or not; it was given back.
        """
        until = asyncio.get_running_loop().time() + self.keep_seconds
        try:
            sealed = self.vault.seal(json.dumps(_shown(pair)).encode(), context=pending_context(held.link_id))
            while True:
                try:
                    with translated():
                        kept = await self.pool.fetchrow(_SQL["keep_grant"], held.link_id, held.mark, sealed)
                except DatabaseUnavailable as problem:
                    _log.warning("grant_not_kept", link=str(held.link_id), error=problem.message)
                    if asyncio.get_running_loop().time() >= until:
                        break
                    await asyncio.sleep(KEEP_AGAIN_SECONDS)
                else:
                    if kept is not None:
                        return True
                    break
        except asyncio.CancelledError:
            await asyncio.shield(self._revoke(held.link_id, pair))
            raise
        except Exception:
            await asyncio.shield(self._let_go(held, pair))
            raise
        await asyncio.shield(self._let_go(held, pair))
        return False

    async def _let_go(self, held: HeldGrant, pair: TokenPair) -> None:
        """Revoke what is in no row; its link is good again at once, if Postgres can be told."""
        if await self._revoke(held.link_id, pair):
            with suppress(SlotwireError):
                await self.drop(held)

    async def wait_for_backend(self, held: HeldGrant) -> str | None:
        """Spend the link, and let the grant wait for a one-time code, which is returned; None if the link is over."""
        code, now = encode_base64url(secrets.token_bytes(32)), self.clock.now()
        with translated():
            row = await self.pool.fetchrow(
                _SQL["hand_over_grant"], held.link_id, held.mark, digest(code), now, now + PENDING_LIFE
            )
        return None if row is None else code

    async def take(self, code: str, link: ConnectLink) -> tuple[HeldGrant, TokenPair] | None:
        """Take in hand what waited for a code, once; None if nothing does any more."""
        mark, now = digest(secrets.token_hex(32)), self.clock.now()
        with translated():
            row = await self.pool.fetchrow(_SQL["take_grant"], digest(code), link.id, mark, now, now + HELD_LIFE)
        return None if row is None else (HeldGrant(link.id, mark), self._opened(link.id, row["sealed"]))

    async def give_back(self, held: HeldGrant, pair: TokenPair) -> None:
        """Revoke a grant that is of no use; if that fails, it is tried again later."""
        if await self._revoke(held.link_id, pair):
            await self.drop(held)

    async def revoke_late(self) -> int:
        """Revoke what was not stored in time, one after the other; return how many were looked at."""
        now, found = self.clock.now(), 0
        while True:
            mark = digest(secrets.token_hex(32))
            with translated():
                row = await self.pool.fetchrow(_SQL["late_grant"], now, mark, now + GIVE_BACK_AGAIN)
            if row is None:
                return found
            found += 1
            if await self._is_over(row["link_id"], row["sealed"], row["created_at"]):
                await self.drop(HeldGrant(row["link_id"], mark))

    async def _is_over(self, link_id: UUID, sealed: bytes, created_at: datetime) -> bool:
        """Revoke what a row holds; return whether nothing more can be done about it."""
        link = str(link_id)
        if not sealed:
            _log.error("grant_lost", link=link, remedy="Its process ended. If Calendly gave a grant, nobody has it.")
            return True
        try:
            pair = self._opened(link_id, sealed)
        except SecretUnreadable as problem:
            _log.error("grant_not_revoked", link=link, error=problem.message)
            return True
        if await self._revoke(link_id, pair):
            _log.info("grant_given_back", link=link)
            return True
        return self.clock.now() - created_at >= GIVE_UP

    async def _revoke(self, link_id: UUID, pair: TokenPair) -> bool:
        try:
            await self.client.revoke(pair.refresh_token, user=pair.owner, by=Bearer(last_segment(pair.organization)))
        except SlotwireError as error:
            _log.error("grant_not_revoked", link=str(link_id), error=error.message)
            return False
        return True

    def _opened(self, link_id: UUID, sealed: bytes) -> TokenPair:
        return TokenPair.model_validate_json(self.vault.open(sealed, context=pending_context(link_id)))


def _shown(pair: TokenPair) -> dict[str, object]:
    """Return a pair as it is sealed."""
    return pair.model_dump(mode="json") | {
        "access_token": pair.access_token.get_secret_value(),
        "refresh_token": pair.refresh_token.get_secret_value(),
    }
