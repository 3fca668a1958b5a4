"""Requests that may be sent again: the header `Idempotency-Key`, and the answer it stands for.

    (nothing) ──claim──▶ runs ──2xx or 4xx──▶ kept for 24 h: the same request gets the same answer
        ▲                 │ └──no end for 120 s: the next one takes it over
        └──────5xx────────┘

Exactly one of any number of requests at any number of processes claims a key; the row decides, not the process.
A request that is cut off between the change and keeping its answer is carried out again once it is taken over:
that is the one case in which this does not hold, and the audit shows the first one as begun.

Answers may show a key of this API, so they are sealed; of a request only a hash is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from slotwire.ingest.errors import RequestRefused, SlotwireError
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.vault import MAX_SECRET_BYTES, Vault

if TYPE_CHECKING:
    from slotwire.ingest.foundation.settings import Settings

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
"""Says `true` on an answer that was kept."""
MAX_KEY = 200
"""Characters of a key."""
KEY_FORM = "[!-~]+"
"""Visible ASCII: what goes through every proxy unchanged."""
RETENTION = timedelta(hours=24)
"""How long an answer is kept."""
ABANDONED_AFTER = timedelta(seconds=120)
"""A request without an end is taken for dead: longer than any may run (`Limits.answer_seconds`), with room for
clocks of processes that differ."""
REMOVE_EVERY_SECONDS = 600.0
"""How often answers that were kept long enough are looked for."""
REMOVED_AT_ONCE = 1_000
"""Answers removed by one statement."""
_CLAIMS = 3
"""How often a claim looks again when the row it met is gone."""

_FORM = re.compile(KEY_FORM, re.ASCII)
_SQL = read_queries("slotwire.ingest.sql", "operate.sql")
_log = get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out a request, and to keep its answer.

    Attributes:
        key_id: the key of this API that the request came with.
        key: its `Idempotency-Key`.
        id: of this claim; after a take-over the row has another.
    """

    key_id: UUID
    key: str
    id: UUID


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer that was given before.

    Attributes:
        status: of HTTP.
        body: as it was sent.
    """

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class IdempotentResponses:
    """Answers to requests that came with a key, on one database."""

    pool: Pool
    settings: Settings
    clock: Clock

    async def claim(self, key_id: UUID, key: str, fingerprint: bytes) -> Claim | StoredResponse:
        """Claim a request, or find the answer it was given.

        Raises:
            RequestRefused: the key stands for another request, or the first one runs still.
        """
        for _ in range(_CLAIMS):
            now, claim = self.clock.now(), Claim(key_id, key, uuid4())
            with translated():
                claimed = await self.pool.fetchval(
                    _SQL["claim_idempotent"],
                    key_id,
                    key,
                    claim.id,
                    fingerprint,
                    now,
                    now - RETENTION,
                    now - ABANDONED_AFTER,
                )
                if claimed is not None:
                    return claim
                row = await self.pool.fetchrow(_SQL["idempotent_answer"], key_id, key)
            if row is None:
                continue  # the first one failed on our side, and let go of it
            if row["fingerprint"] != fingerprint:
                raise RequestRefused(
                    f"this {HEADER} stands for another request",
                    code="idempotency_key_reused",
                    remedy="Send the request as it was, octet by octet, or give another key.",
                )
            if row["status"] is not None:
                body = self._vault().open(row["sealed"], context=answer_context(key_id, key))
                return StoredResponse(row["status"], body)
            break
        raise RequestRefused(
            f"the first request with this {HEADER} runs still",
            code="idempotency_key_in_use",
            remedy="Send it again in a moment for its answer.",
        )

    async def store(self, claim: Claim, status: int, body: bytes) -> None:
        """Keep an answer. Where that fails the answer is given all the same, and the next one runs anew."""
        try:
            if len(body) > MAX_SECRET_BYTES:
                _log.error("answer_too_long", bytes=len(body))
                await self.release(claim)
                return
            sealed = self._vault().seal(body, context=answer_context(claim.key_id, claim.key))
            with translated():
                await self.pool.execute(_SQL["store_idempotent"], claim.key_id, claim.key, claim.id, status, sealed)
        except SlotwireError as problem:
            _log.warning("answer_not_kept", error=problem.message)

    async def release(self, claim: Claim) -> None:
        """Let go of a request that failed on our side, so that it can be sent again at once."""
        try:
            with translated():
                await self.pool.execute(_SQL["release_idempotent"], claim.key_id, claim.key, claim.id)
        except SlotwireError as problem:
            _log.warning("claim_not_released", error=problem.message)

    def _vault(self) -> Vault:
        return Vault.from_settings(self.settings.vault)


def checked_key(sent: Sequence[str]) -> str | None:
    """Return the key a request came with, if any.

    Raises:
        RequestRefused: it comes twice, is empty or too long, or holds what is not visible ASCII.
    """
    if not sent:
        return None
    if len(sent) > 1 or len(sent[0]) > MAX_KEY or not _FORM.fullmatch(sent[0]):
        raise RequestRefused(
            f"{HEADER} must come once, with 1 to {MAX_KEY} visible ASCII characters",
            code="idempotency_key_invalid",
            remedy="Make a random one for each change, for example a UUID, and repeat it with the request only.",
        )
    return sent[0]


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """Return what is kept of a request: enough to tell another one.

    Args:
        method: of HTTP.
        path: with the query, as sent.
        body: as sent.
    """
    parts = (method.encode(), path.encode(errors="surrogateescape"), body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


async def run(pool: Pool, clock: Clock) -> None:
    """Remove what was kept long enough, again and again, for ever. A round that fails is logged."""
    while True:
        try:
            await remove_old(pool, now=clock.now())
        except SlotwireError as problem:
            _log.warning("round_failed", error=problem.message)
        await asyncio.sleep(REMOVE_EVERY_SECONDS)


async def remove_old(pool: Pool, *, now: datetime) -> int:
    """Remove what was kept long enough; returns how many.

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
    """Return what a kept answer is bound to."""
    return "idempotent_answers", str(key_id), key
