"""What a Calendly token says of itself, read without a call. Pure.

A personal access token is a JWT that names its user and scopes (docs/reference/calendly.md, "Credentials").
Nobody here can check its signature, so this serves to explain early what a token will lack, and when it ends.
Who it belongs to, only Calendly's answer says.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

MAX_TOKEN = 16_384
"""Characters of a token that are read; tokens have less than 2,000."""
FULL_ACCESS = "default"
"""The scope of tokens from before scopes could be chosen: everything."""
_PARTS = 3


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token says; all of it may be missing, and none of it is proven.

    Attributes:
        user_uuid: the last segment of the user's URI.
        scopes: what it may do; None where it does not say.
        expires_at: when it ends; None where it does not say.
    """

    user_uuid: str | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None

    def lacks(self, needed: tuple[str, ...]) -> tuple[str, ...]:
        """Return what of the needed scopes is not in there; none where the token does not say.

        A `:write` scope includes its `:read` (docs/reference/calendly.md, "Credentials").
        """
        if self.scopes is None or FULL_ACCESS in self.scopes:
            return ()
        return tuple(scope for scope in needed if scope not in self.scopes and not self._writes(scope))

    def _writes(self, scope: str) -> bool:
        family, _, verb = scope.partition(":")
        return verb == "read" and f"{family}:write" in (self.scopes or ())


class _Claims(BaseModel):
    # Each claim is read by itself: one of a strange shape must not hide its neighbours.
    model_config = ConfigDict(extra="ignore")

    user_uuid: object = None
    scope: object = None
    scopes: object = None
    exp: object = None


def read_claims(token: SecretStr) -> TokenClaims:
    """Read what a token says of itself. Anything that is no such JWT says nothing; nothing is raised."""
    text = token.get_secret_value()
    parts = text.split(".", _PARTS)
    if len(text) > MAX_TOKEN or len(parts) != _PARTS:
        return TokenClaims()
    try:
        told = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        claims = _Claims.model_validate_json(told)
    except (binascii.Error, ValueError, ValidationError):
        return TokenClaims()
    user = claims.user_uuid if isinstance(claims.user_uuid, str) and claims.user_uuid else None
    return TokenClaims(user, _scopes(claims.scopes if claims.scope is None else claims.scope), _moment(claims.exp))


def _scopes(claim: object) -> tuple[str, ...] | None:
    """Read a list, or words with blanks between them, as the standard has it (RFC 8693, 4.2)."""
    words = claim.split() if isinstance(claim, str) else claim
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return tuple(dict.fromkeys(words))


def _moment(claim: object) -> datetime | None:
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        return None
    try:
        return datetime.fromtimestamp(claim, UTC)
    except (OverflowError, ValueError, OSError):
        return None
