"""Settings of shipped agents as operators see and set them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson

from slotwire.ingest.foundation.agent_settings.stored import StoredSettings
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated

_SQL = read_queries("slotwire.ingest.sql", "agent_settings.sql")


@dataclass(frozen=True, slots=True)
class AgentSettingsRow:
    """Settings, without their secrets; see the fields of the same names in `agent_settings_models`.

    Attributes:
        org: empty for those of everybody.
        document: JSON.
        secret_names: the secrets that are set.
    """

    id: UUID
    agent: str
    org: str
    version: int
    document: str
    secret_names: tuple[str, ...]
    changed_at: datetime
    changed_by: str
    disabled_at: datetime | None
    disabled_why: str | None


async def read_page(
    pool: Pool, org: str | None, agent: str | None, *, after: UUID | None, limit: int
) -> list[AgentSettingsRow]:
    """Read settings after an id; with `org` those of this organization only."""
    with translated():
        rows = await pool.fetch(_SQL["agent_settings_page"], org, agent, after, limit)
    return [_row(**row) for row in rows]


async def read_one(pool: Pool, settings_id: UUID, org: str | None) -> AgentSettingsRow | None:
    """Read one row; None when it is not within reach."""
    with translated():
        row = await pool.fetchrow(_SQL["one_agent_settings"], settings_id, org)
    return None if row is None else _row(**row)


async def read_sealed(pool: Pool, agent: str, org: str) -> StoredSettings | None:
    """Read what is set now, secrets included."""
    with translated():
        row = await pool.fetchrow(_SQL["sealed_agent_settings"], agent, org)
    return None if row is None else StoredSettings(**{**row, "document": orjson.loads(row["document"])})


async def knows(pool: Pool, org: str) -> bool:
    """Say whether an organization was ever added."""
    with translated():
        known: bool = await pool.fetchval(_SQL["knows_organization"], org)
    return known


async def write(  # noqa: PLR0913 - the columns
    pool: Pool,
    agent: str,
    org: str,
    *,
    version: int,
    document: Mapping[str, Any],
    secret_names: tuple[str, ...],
    sealed: bytes | None,
    by: str,
    now: datetime,
) -> UUID | None:
    """Set them in place of a version (0: of none); returns None where somebody else was first."""
    text = orjson.dumps(dict(document), option=orjson.OPT_SORT_KEYS).decode()
    values = (uuid4(), agent, org, version, text, list(secret_names), sealed, by, now)
    with translated():
        written: UUID | None = await pool.fetchval(_SQL["set_agent_settings"], *values)
    return written


async def remove(pool: Pool, settings_id: UUID, org: str | None) -> bool:
    """Remove them; says whether they were there."""
    with translated():
        gone: bool = await pool.fetchval(_SQL["unset_agent_settings"], settings_id, org)
    return gone


def _row(*, secret_names: Sequence[str], **row: Any) -> AgentSettingsRow:
    return AgentSettingsRow(secret_names=tuple(secret_names), **row)
