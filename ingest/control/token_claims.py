"""The claims of a Calendly token, read without a call. Pure.

A personal access token is a JWT with its user and scopes (docs/reference/calendly.md, "Credentials"). We cannot check
its signature, so the claims only serve to report early which scopes it lacks and when it expires. Only Calendly's
answer says whose it is.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

MAX_TOKEN = 16_384
"""A longer token is not read, in characters; real ones have less than 2,000."""
FULL_ACCESS = "default"
"""The scope of tokens made before Calendly had scopes: everything."""
_PARTS = 3


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of a token. Each may be missing, and none is verified.

    Attributes:
        user_uuid: the last segment of the user's URI.
        scopes: its scopes; None if it claims none.
        expires_at: when it expires; None if it does not say.
    """

    user_uuid: str | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None

    def lacks(self, needed: tuple[str, ...]) -> tuple[str, ...]:
        """Return the needed scopes that are missing; none if the token claims no scopes.

        A `:write` scope includes its `:read` (docs/reference/calendly.md, "Credentials").
        """
        if self.scopes is None or FULL_ACCESS in self.scopes:
            return ()
        return tuple(scope for scope in needed if scope not in self.scopes and not self._writes(scope))

    def _writes(self, scope: str) -> bool:
        family, _, verb = scope.partition(":")
        return verb == "read" and f"{family}:write" in (self.scopes or ())


class _Claims(BaseModel):
    # Each claim is read separately, so that a malformed one does not hide the others.
    model_config = ConfigDict(extra="ignore")

    user_uuid: object = None
    scope: object = None
    scopes: object = None
    exp: object = None


def read_claims(token: SecretStr) -> TokenClaims:
    """Read a token's claims. Never raises: text that is not such a JWT has no claims."""
    text = token.get_secret_value()
    parts = text.split(".", _PARTS)
    if len(text) > MAX_TOKEN or len(parts) != _PARTS:
        return TokenClaims()
    try:
        body = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        claims = _Claims.model_validate_json(body)
    except (binascii.Error, ValueError, ValidationError):
        return TokenClaims()
    user = claims.user_uuid if isinstance(claims.user_uuid, str) and claims.user_uuid else None
    return TokenClaims(user, _scopes(claims.scopes if claims.scope is None else claims.scope), _moment(claims.exp))


def _scopes(claim: object) -> tuple[str, ...] | None:
    """Read scopes from a list, or from a string separated by spaces (RFC 8693, 4.2)."""
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
