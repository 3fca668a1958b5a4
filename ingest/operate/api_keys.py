"""Keys of the management API: shown once, stored as a hash.

A key is `slw_` and 256 random bits. Nobody can guess those, so a plain SHA-256 protects it as well as a slow hash.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.errors import RequestRefused, RowRefused
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.operate.roles import Role

PREFIX = "slw_"
"""Lets secret scanners and people recognize a key."""
KEY_BYTES = 32
MAX_LABEL = 200
"""Characters of a label."""
USED_EVERY = timedelta(minutes=1)
"""The last use is written at most this often, so that a request does not cost a write."""

_KEY = re.compile(r"slw_[A-Za-z0-9_-]{43}", re.ASCII)
_SQL = read_queries("slotwire.ingest.sql", "operate.sql")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored, without its secret part.

    Attributes:
        id: what it is listed and revoked by.
        role: what it may do.
        org: the only organization it reaches; None for all.
        label: what it is for.
        created_at: when it was made.
        revoked_at: when it was revoked; None while it is valid.
        last_used_at: when it was last used, to the minute.
    """

    id: UUID
    role: Role
    org: str | None
    label: str
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


def mint() -> SecretStr:
    """Make a key."""
    return SecretStr(PREFIX + encode_base64url(secrets.token_bytes(KEY_BYTES)))


def digest(key: str) -> bytes:
    """Return the hash of a key that is stored."""
    return hashlib.sha256(key.encode()).digest()


async def create(pool: Pool, *, role: Role, org: str | None, label: str, now: datetime) -> tuple[ApiKey, SecretStr]:
    """Make a key and store its hash. The key itself is only returned.

    Raises:
        RequestRefused: the organization is not known.
    """
    key, made = mint(), ApiKey(uuid4(), role, org, label, now, None, None)
    try:
        with translated():
            await pool.execute(_SQL["insert_key"], made.id, digest(key.get_secret_value()), role, org, label, now)
    except RowRefused as error:
        raise RequestRefused(
            "there is no such organization, or the label is not valid",
            code="organization_unknown",
            remedy="Bind a key to an organization that `slotwire organizations list` shows.",
        ) from error
    return made, key


async def page(pool: Pool, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int) -> tuple[ApiKey, ...]:
    """List keys, oldest first; those of one organization, or all."""
    time, last = after or (None, None)
    with translated():
        rows = await pool.fetch(_SQL["keys_page"], org, time, last, limit)
    return tuple(ApiKey(**{**dict(row), "role": Role(row["role"])}) for row in rows)


async def revoke(pool: Pool, key_id: UUID, org: str | None, now: datetime) -> ApiKey:
    """Revoke a key, effective at once. A second time changes nothing.

    Raises:
        RequestRefused: there is no such key within reach.
    """
    with translated():
        row = await pool.fetchrow(_SQL["revoke_key"], key_id, org, now)
    if row is None:
        raise RequestRefused(
            "there is no such key", code="not_found", remedy="`slotwire keys api list` shows the keys there are."
        )
    return ApiKey(**{**dict(row), "role": Role(row["role"])})


def looks_like_a_key(text: str) -> bool:
    """Return whether a text has the form of a key, without a look-up."""
    return _KEY.fullmatch(text) is not None
