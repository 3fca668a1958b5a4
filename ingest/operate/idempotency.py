"""Repeated requests: the header `Idempotency-Key`, and the response that is stored for it.

    (nothing) ──claim──▶ runs ──2xx or 4xx──▶ stored for 24 h: the same request gets the same response
        ▲                 │ └──no end for 120 s: the next request takes the claim over
        └──5xx, or Retry-After

A database row ensures that only one of any number of requests, at any number of processes, claims a key.
There is one exception: a request that is cut off after the change and before its response is stored is carried out
again when its claim is taken over. The audit shows the first one as started.

Responses may hold a key of this API, so they are stored encrypted; of a request only a hash is stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, borrowed, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.vault import MAX_SECRET_BYTES, Vault

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
"""The header that is `true` on a stored response."""
MAX_KEY = 200
"""Characters of a key."""
KEY_FORM = "[!-~]+"
"""Visible ASCII, which passes through every proxy unchanged."""
MAX_STORED = 10_000
"""Responses stored for one key of this API. A request under another name is refused until the oldest are removed."""
RETENTION = timedelta(hours=24)
"""How long a response is stored."""
ABANDONED_AFTER = timedelta(seconds=120)
"""After this time a request without an end counts as dead: longer than any may run (`Limits.answer_seconds`), with
room for differences between the clocks of processes."""
REMOVE_EVERY_SECONDS = 600.0
"""The pause between two rounds that remove old responses."""
REMOVED_AT_ONCE = 1_000
"""Responses removed by one statement."""
_CLAIMS = 3
"""How often a claim tries again when the row that it found is gone."""

_FORM = re.compile(KEY_FORM, re.ASCII)
_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_log = get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out a request, and to store its response.

    Attributes:
        key_id: the key of this API that the request came with.
        key: its `Idempotency-Key`.
        id: of this claim; a claim that takes it over has another.
    """

    key_id: UUID
    key: str
    id: UUID


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response that was sent before.

    Attributes:
        status: HTTP status.
        body: as it was sent.
    """

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class IdempotentResponses:
    """Responses to requests with an `Idempotency-Key`, on one database."""

    pool: Pool
    settings: Settings
    clock: Clock

    async def claim(self, key_id: UUID, key: str, fingerprint: bytes) -> Claim | StoredResponse:
        """Claim a request, or return the response that it got before.

        Raises:
            RequestRefused: the key belongs to another request, the first one is still running, or too many responses
                are stored for the caller.
        """
        for _ in range(_CLAIMS):
            now, claim = self.clock.now(), Claim(key_id, key, uuid4())
            asked = (key_id, key, claim.id, fingerprint, now, now - RETENTION, now - ABANDONED_AFTER, MAX_STORED)
            async with borrowed(self.pool) as connection, connection.transaction():
                await connection.execute(_SQL["wait_for_claims"], key_id)
                claimed = await connection.fetchval(_SQL["claim_idempotent"], *asked)
            if claimed is not None:
                return claim
            with translated():
                row = await self.pool.fetchrow(_SQL["idempotent_answer"], key_id, key)
                if row is None and await self.pool.fetchval(_SQL["has_idempotent"], key_id, MAX_STORED):
                    raise RequestRefused(
                        f"{MAX_STORED} responses are stored for this caller's {HEADER}s",
                        code="idempotency_keys_exhausted",
                        remedy="Send it without the header, or wait: a response is removed after a day.",
                    )
            if row is None:
                continue  # the first request failed on our side and released its claim
            if row["fingerprint"] != fingerprint:
                raise RequestRefused(
                    f"this {HEADER} belongs to another request",
                    code="idempotency_key_reused",
                    remedy="Send the same request, byte for byte, or use another key.",
                )
            if row["status"] is not None:
                body = self._vault().open(row["sealed"], context=answer_context(key_id, key))
                return StoredResponse(row["status"], body)
            break
        raise RequestRefused(
            f"the first request with this {HEADER} is still running",
            code="idempotency_key_in_use",
            remedy="Send it again in a moment to get its response.",
        )

    async def store(self, claim: Claim, status: int, body: bytes) -> None:
        """Store a response. If that fails, the response is sent all the same, and a repeated request runs again."""
        try:
            if len(body) > MAX_SECRET_BYTES:
                _log.error("response_too_long", bytes=len(body))
                await self.release(claim)
                return
            sealed = self._vault().seal(body, context=answer_context(claim.key_id, claim.key))
            with translated():
                await self.pool.execute(_SQL["store_idempotent"], claim.key_id, claim.key, claim.id, status, sealed)
        except SlotwireError as problem:
            _log.warning("response_not_stored", error=problem.message)

    async def release(self, claim: Claim) -> None:
        """Release the claim of a request that failed on our side, so that it can be sent again at once."""
        try:
            with translated():
                await self.pool.execute(_SQL["release_idempotent"], claim.key_id, claim.key, claim.id)
        except SlotwireError as problem:
            _log.warning("claim_not_released", error=problem.message)

    def _vault(self) -> Vault:
        return Vault.from_settings(self.settings.vault)


def checked_key(sent: Sequence[str]) -> str | None:
    """Return the `Idempotency-Key` of a request, if any.

    Raises:
        RequestRefused: it is there twice, is empty or too long, or holds other characters than visible ASCII.
    """
    if not sent:
        return None
    if len(sent) > 1 or len(sent[0]) > MAX_KEY or not _FORM.fullmatch(sent[0]):
        raise RequestRefused(
            f"send {HEADER} once, with 1 to {MAX_KEY} visible ASCII characters",
            code="idempotency_key_invalid",
            remedy="Use a random key for each change, for example a UUID, and only repeat it with the same request.",
        )
    return sent[0]


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """Return the hash that tells a request from others.

    Args:
        method: of HTTP.
        path: with the query, as sent.
        body: as sent.
    """
    parts = (method.encode(), path.encode(errors="surrogateescape"), body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


async def run(pool: Pool, clock: Clock) -> None:
    """Remove old responses again and again, for ever. A round that fails is logged."""
    await repeat(lambda: remove_old(pool, now=clock.now()), stage="idempotency", seconds=REMOVE_EVERY_SECONDS)


async def remove_old(pool: Pool, *, now: datetime) -> int:
    """Remove old responses; return how many.

    Raises:
        DatabaseUnavailable: the next round does the rest.
    """
    removed = 0
    while True:
        with translated():
            found: int = await pool.fetchval(_SQL["remove_idempotent"], now - RETENTION, REMOVED_AT_ONCE)
        removed += found
        if found < REMOVED_AT_ONCE:
            return removed


def answer_context(key_id: UUID, key: str) -> tuple[str, ...]:
    """Return the context that a stored response is encrypted for."""
    return "idempotent_answers", str(key_id), key
