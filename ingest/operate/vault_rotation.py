"""Rotation of the vault's keys: secrets that another key encrypted are encrypted with the first key.

A page is one statement and one transaction. A row is written back only if it is still as it was read, so nothing
written meanwhile is lost. After an interruption the next run finds and finishes the rest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import Field

from slotwire.ingest.control.app_keys import app_key_context
from slotwire.ingest.control.connect_links import pending_context
from slotwire.ingest.control.connection_records import connection_context, refresh_context
from slotwire.ingest.errors import SecretUnreadable
from slotwire.ingest.foundation.postgres import Connection, Pool, read_queries, translated
from slotwire.ingest.foundation.sealing import is_key_name
from slotwire.ingest.keys.signing_keys import signing_key_context
from slotwire.ingest.keys.vault import Vault, key_name
from slotwire.ingest.operate.idempotency import answer_context
from slotwire.ingest.operate.models import Model

if TYPE_CHECKING:
    import asyncpg

PAGE = 200
"""Secrets that one transaction re-encrypts."""

_SQL = read_queries("slotwire.ingest.sql", "vault.sql")
_FIRST = UUID(int=0)


class RotationProgress(Model):
    """The progress on one table."""

    table: str
    """The table that holds the secrets."""
    resealed: int
    """Secrets that this run has re-encrypted so far."""
    unreadable: int = Field(0)
    """Secrets left as they are, because none of the vault's keys opens them."""
    done: bool
    """Whether the whole table has been read."""


class KeyUse(Model):
    """How much one key is used."""

    key: str
    """Its name; empty for secrets of an unknown form."""
    secrets: int
    """Secrets that it encrypted."""
    here: bool
    """Whether the vault has it."""
    seals: bool
    """Whether new secrets are encrypted with it."""

    @property
    def removable(self) -> bool:
        """Whether no secret needs it any more."""
        return self.here and not self.seals and not self.secrets


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    stale: str
    reseal: str
    start: tuple[Any, ...]
    key: tuple[str, ...]
    context: Callable[[asyncpg.Record], tuple[str, ...]]


_TABLES = (
    _Table(
        "signing_keys",
        _SQL["stale_signing_keys"],
        _SQL["reseal_signing_keys"],
        (_FIRST,),
        ("id",),
        lambda row: signing_key_context(row["org"], row["subscription_id"], row["id"]),
    ),
    _Table(
        "connections",
        _SQL["stale_connections"],
        _SQL["reseal_connections"],
        (_FIRST,),
        ("id",),
        lambda row: connection_context(row["org"], row["id"], row["credential_id"]),
    ),
    _Table(
        "refresh_tokens",
        _SQL["stale_refresh_tokens"],
        _SQL["reseal_refresh_tokens"],
        (_FIRST,),
        ("id",),
        lambda row: refresh_context(row["org"], row["id"], row["credential_id"]),
    ),
    _Table(
        "pending_connections",
        _SQL["stale_pending"],
        _SQL["reseal_pending"],
        (_FIRST,),
        ("link_id",),
        lambda row: pending_context(row["link_id"]),
    ),
    _Table(
        "app_signing_keys",
        _SQL["stale_app_keys"],
        _SQL["reseal_app_keys"],
        (_FIRST,),
        ("id",),
        lambda row: app_key_context(row["id"]),
    ),
    _Table(
        "idempotent_answers",
        _SQL["stale_answers"],
        _SQL["reseal_answers"],
        (_FIRST, ""),
        ("key_id", "idempotency_key"),
        lambda row: answer_context(row["key_id"], row["idempotency_key"]),
    ),
)


async def rotate(pool: Pool, vault: Vault) -> AsyncGenerator[RotationProgress, None]:
    """Re-encrypt what another key than the first encrypted, and yield the progress after each page. Safe to repeat.

    Raises:
        DatabaseUnavailable: the pages that were yielded are done; the next run does the rest.
    """
    for table in _TABLES:
        place, resealed, unreadable, done = table.start, 0, 0, False
        while not done:
            with translated():
                rows = await pool.fetch(table.stale, vault.head, PAGE, *place)
                fresh = [(row, again) for row in rows if (again := _resealed(vault, table, row)) is not None]
                resealed += await _put_back(pool, table, fresh)
            unreadable += len(rows) - len(fresh)
            done = len(rows) < PAGE
            if rows:
                place = tuple(rows[-1][column] for column in table.key)
            yield RotationProgress(table=table.name, resealed=resealed, unreadable=unreadable, done=done)


async def keys_in_use(on: Pool | Connection, vault: Vault) -> tuple[KeyUse, ...]:
    """Count the secrets that each key encrypted: first the vault's keys in order, then keys that it does not have."""
    with translated():
        rows = await on.fetch(_SQL["sealed_by"])
    counted: dict[str, int] = {}
    for row in rows:
        name = key_name(row["head"])
        # Show nothing that is not a valid name.
        name = name if is_key_name(name) else ""
        counted[name] = counted.get(name, 0) + row["secrets"]
    ours = vault.key_names
    return tuple(
        KeyUse(key=name, secrets=counted.get(name, 0), here=name in ours, seals=name == ours[0])
        for name in (*ours, *(name for name in counted if name not in ours))
    )


def _resealed(vault: Vault, table: _Table, row: asyncpg.Record) -> bytes | None:
    context = table.context(row)
    try:
        return vault.seal(vault.open(row["sealed"], context=context), context=context)
    except SecretUnreadable:
        return None


async def _put_back(pool: Pool, table: _Table, fresh: list[tuple[asyncpg.Record, bytes]]) -> int:
    if not fresh:
        return 0
    keys = ([row[column] for row, _ in fresh] for column in table.key)
    status = await pool.execute(table.reseal, [row["sealed"] for row, _ in fresh], [again for _, again in fresh], *keys)
    return int(status.rpartition(" ")[2])
