"""Tokens as Kafka's own unsecured validator takes them: a provider as an installation would name it in the settings."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

LIFETIME = timedelta(hours=1)
given: list[str] = []
"""Every token that `token` and `brief` have given, in order."""


def token() -> tuple[str, datetime]:
    """Give a token for the user `slotwire`, valid for an hour."""
    expires_at = datetime.now(UTC) + LIFETIME
    given.append(unsigned("slotwire", expires_at))
    return given[-1], expires_at


def brief() -> tuple[str, datetime]:
    """Give a token for the user `slotwire`, valid for two seconds."""
    expires_at = datetime.now(UTC) + timedelta(seconds=2)
    given.append(unsigned("slotwire", expires_at))
    return given[-1], expires_at


def expired() -> tuple[str, datetime]:
    """Give a token that says another time than this function: the broker refuses it."""
    return unsigned("slotwire", datetime.now(UTC) - LIFETIME), datetime.now(UTC) + LIFETIME


def broken() -> tuple[str, datetime]:
    """Fail, with a secret in the message, as a client of an identity provider may."""
    raise RuntimeError("the-secret-of-the-client")


def unsigned(user: str, expires_at: datetime) -> str:
    """Write an unsecured JSON Web Signature (RFC 7515, appendix A.5)."""
    claims = {"sub": user, "iat": (expires_at - 2 * LIFETIME).timestamp(), "exp": expires_at.timestamp()}
    return ".".join((_encoded({"alg": "none"}), _encoded(claims), ""))


def _encoded(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
