"""The codes and refresh tokens of the simulator's OAuth app.

A refresh token works once: a success revokes it and returns a new pair. Access tokens end after two hours.
Source: docs/reference/calendly.md, "Credentials".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from slotwire.ingest.simulator.draws import Draws
from slotwire.ingest.simulator.engine import Engine
from slotwire.ingest.simulator.gate import RestGate
from slotwire.ingest.simulator.model import Token
from slotwire.ingest.simulator.world import personal_access_token

CODE_LIFE = timedelta(minutes=10)
ACCESS_LIFE = timedelta(seconds=7200)
TOKEN_RATE = 8
"""Token requests that are answered for a user in a minute."""
WINDOW = timedelta(seconds=60)

RefreshState: TypeAlias = Literal["active", "used", "revoked"]


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code: it works once, for the redirect address and the verifier it was made for."""

    user: str
    scopes: tuple[str, ...]
    redirect_uri: str
    challenge: str
    ends: datetime


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token with the access token of its pair."""

    value: str = field(repr=False)
    user: str
    scopes: tuple[str, ...]
    access: str = field(repr=False)
    state: RefreshState = "active"


REFRESH = TypeAdapter(RefreshToken)


class Grants:
    """Codes in memory; refresh tokens in the state file, where tokens are."""

    def __init__(self, engine: Engine, gate: RestGate) -> None:
        self._engine = engine
        self._gate = gate
        self._codes: dict[str, Code] = {}
        self._refresh = {each.value: each for each in map(REFRESH.validate_json, engine.bookings.refresh_tokens())}
        self._windows: dict[str, tuple[datetime, int]] = {}
        self.refreshed: dict[str, int] = {}

    def issue_code(self, user: str, scopes: tuple[str, ...], redirect_uri: str, challenge: str) -> str:
        """Make a code for a user who agreed."""
        value = self._text("code")
        ends = self._engine.clock.now() + CODE_LIFE
        self._codes[value] = Code(user, scopes, redirect_uri, challenge, ends)
        return value

    def code(self, value: str) -> Code | None:
        """Return a code that is still good."""
        found = self._codes.get(value)
        return found if found is not None and self._engine.clock.now() < found.ends else None

    def spend_code(self, value: str) -> RefreshToken:
        """Turn a code into a pair."""
        code = self._codes.pop(value)
        return self._pair(code.user, code.scopes)

    def refresh_token(self, value: str) -> RefreshToken | None:
        """Return a refresh token, used or not."""
        return self._refresh.get(value)

    def rotate(self, old: RefreshToken) -> RefreshToken:
        """Revoke a refresh token at once, and make the next pair."""
        self._put(replace(old, state="used"))
        self.refreshed[old.user] = self.refreshed.get(old.user, 0) + 1
        return self._pair(old.user, old.scopes)

    def revoke(self, value: str) -> bool:
        """Revoke a token, access or refresh, and the other of its pair; return whether it was known."""
        for pair in list(self._refresh.values()):
            if value in {pair.value, pair.access}:
                self._revoke_pair(pair)
                return True
        return False

    def revoke_user(self, user: str) -> int:
        """Revoke everything a user granted the app, as if they did it in their account; return how many pairs."""
        found = [pair for pair in self._refresh.values() if pair.user == user and pair.state == "active"]
        for pair in found:
            self._revoke_pair(pair)
        return len(found)

    def active(self) -> int:
        """Return how many refresh tokens work."""
        return sum(pair.state == "active" for pair in self._refresh.values())

    def within_rate(self, user: str) -> bool:
        """Count a token request of a user; False where there were too many in a minute."""
        now = self._engine.clock.now()
        begun, used = self._windows.get(user, (now, 0))
        if now >= begun + WINDOW:
            begun, used = now, 0
        self._windows[user] = (begun, used + 1)
        return used < TOKEN_RATE

    def _pair(self, user: str, scopes: tuple[str, ...]) -> RefreshToken:
        number = self._engine.bookings.next_number("token")
        ends = self._engine.clock.now() + ACCESS_LIFE
        access = personal_access_token(self._engine.seed, user, scopes, number, ends)
        token = Token(access, user, scopes, expires_at=ends, app=True)
        self._gate.put(token)
        self._engine.bookings.put_token(token)
        made = RefreshToken(self._text("refresh"), user, scopes, access)
        self._put(made)
        return made

    def _revoke_pair(self, pair: RefreshToken) -> None:
        self._put(replace(pair, state="revoked"))
        for token in self._gate.tokens():
            if token.value == pair.access:
                gone = replace(token, state="revoked")
                self._gate.put(gone)
                self._engine.bookings.put_token(gone)

    def _put(self, token: RefreshToken) -> None:
        self._refresh[token.value] = token
        self._engine.bookings.put_refresh_token(token.value, REFRESH.dump_json(token))

    def _text(self, kind: str) -> str:
        number = self._engine.bookings.next_number(kind)
        octets = Draws(self._engine.seed, kind, number).octets(32)
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def same(one: str, other: str) -> bool:
    """Compare two secrets."""
    return hmac.compare_digest(one.encode(), other.encode())
