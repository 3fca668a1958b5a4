"""Tokens of agents: signed by us, read by us, and good for one endpoint, one agent and one user.

A token says whom it is for and until when, nothing of what they may do: that is asked of Postgres for each request, so
that what is taken from an agent is gone at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID, uuid4

import jwt
from pydantic import SecretStr

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.key_texts import read_key, remedy_for
from slotwire.ingest.foundation.mcp_settings import McpSettings

VARIABLE = "SLOTWIRE_MCP__TOKEN_KEYS"
EVENT_VARIABLE = "SLOTWIRE_MCP__EVENT_KEYS"
EVENTS = "slotwire/mcp/events/v1"
"""What keys of events are derived for, where none are set."""
ALGORITHM = "HS256"
"""Who signs is who verifies, so a shared key is enough; no other algorithm is accepted."""
MAX_TOKEN = 4_096
"""A longer text is no token of ours."""
AHEAD = timedelta(minutes=1)
"""How far the clock of the process that issued a token may be ahead of ours."""
_CLAIMS = ("iss", "aud", "sub", "client_id", "iat", "exp", "jti")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Attributes:
        agent: the agent's id.
        user: the URI of the user at Calendly.
        chain: the only chain of bookings it reaches; None for all of the user's.
        expires_at: when it ends, aware, in UTC.
    """

    agent: UUID
    user: str
    chain: UUID | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Signs tokens with the first key, and reads those that any of the keys has signed."""

    keys: Mapping[str, bytes]
    seconds: int

    @classmethod
    def from_settings(cls, settings: McpSettings) -> Self:
        """Read the keys.

        Raises:
            ConfigurationError: there is none, or one is malformed.
        """
        keys = _named(settings.token_keys, VARIABLE, exact=False)
        if not keys:
            raise ConfigurationError(f"{VARIABLE} is not set", remedy=remedy_for(VARIABLE, named=True))
        return cls(keys, settings.token_seconds)

    def derived(self, purpose: str) -> list[bytes]:
        """Make keys for another purpose of these, in their order: 32 bytes each."""
        return [hashlib.blake2b(purpose.encode(), key=key[:64], digest_size=32).digest() for key in self.keys.values()]

    def issue(self, audience: str, agent: UUID, user: str, chain: UUID | None, now: datetime) -> tuple[str, datetime]:
        """Make a token for an endpoint; returns also when it ends.

        Args:
            audience: the address of the agent's endpoint.
            agent: whom it is for.
            user: whom they act for.
            chain: the only chain of bookings it reaches.
            now: the time.
        """
        name, key = next(iter(self.keys.items()))
        begins = now.astimezone(UTC).replace(microsecond=0)
        ends = begins + timedelta(seconds=self.seconds)
        claims = {
            "iss": issuer_of(audience),
            "aud": audience,
            "sub": user,
            "client_id": str(agent),
            "iat": int(begins.timestamp()),
            "exp": int(ends.timestamp()),
            "jti": str(uuid4()),
        }
        if chain is not None:
            claims["chain"] = str(chain)
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": name, "typ": "at+jwt"}), ends

    def read(self, token: str, audience: str, now: datetime) -> Claims | None:
        """Read a token; None if it is not ours, is for another endpoint, or has ended."""
        if len(token) > MAX_TOKEN:
            return None
        try:
            key = self.keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                return None
            # The library compares times with the clock of the machine; ours may be that of a simulated Calendly.
            found = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=audience,
                issuer=issuer_of(audience),
                options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            claims = Claims(
                UUID(found["client_id"]),
                str(found["sub"]),
                None if found.get("chain") is None else UUID(found["chain"]),
                datetime.fromtimestamp(found["exp"], UTC),
            )
            begins = datetime.fromtimestamp(found["iat"], UTC)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, AttributeError, RecursionError):
            return None
        return claims if begins - AHEAD <= now < claims.expires_at else None


def event_keys(settings: McpSettings, tokens: TokenKeys) -> Mapping[str, bytes]:
    """Read the keys of MCP Events, or derive them of the tokens' keys.

    Raises:
        ConfigurationError: one is malformed.
    """
    found = _named(settings.event_keys, EVENT_VARIABLE, exact=True)
    return found or dict(zip(tokens.keys, tokens.derived(EVENTS), strict=True))


def _named(entries: Sequence[SecretStr], variable: str, *, exact: bool) -> dict[str, bytes]:
    """Read `name:key` entries."""
    keys: dict[str, bytes] = {}
    for entry in entries:
        name, found, text = entry.get_secret_value().partition(":")
        if not found or not name.isascii() or not name.isidentifier() or name in keys:
            raise ConfigurationError(
                f"an entry of {variable} is not `name:key`, or its name is there twice",
                remedy=remedy_for(variable, named=True),
            )
        keys[name] = read_key(text, variable=variable, exact=exact, named=True)
    return keys


def issuer_of(audience: str) -> str:
    """Return who issues the tokens of an endpoint: the listener that it is on."""
    return audience.partition("/mcp/")[0]
