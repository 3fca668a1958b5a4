"""Where a token may be sent, and what can be one."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import SecretStr

from slotwire.ingest.errors import ConfigurationError, RequestRefused
from slotwire.ingest.foundation.settings_base import LOOPBACK

MAX_TOKEN_LENGTH = 8_192
"""Characters; tokens are JWTs of less than 2,000."""


def loopback(address: str, setting: str) -> bool:
    """Return whether one of Calendly's addresses is on this machine; refuse one to which a token must not go."""
    try:
        url = urlsplit(address)
    except ValueError:  # half a bracket, for example
        url = urlsplit("")
    loopback = url.hostname in LOOPBACK
    if not url.hostname or (url.scheme != "https" and not (url.scheme == "http" and loopback)):
        raise ConfigurationError(
            f"{setting} must be an https address, because tokens are sent to it",
            remedy="Unset it for the real Calendly; a simulator on this machine may use http.",
        )
    return loopback


def check_token(token: SecretStr) -> None:
    """Refuse what cannot be a token, before it is sent anywhere."""
    text = token.get_secret_value()
    if not text or len(text) > MAX_TOKEN_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise RequestRefused(
            "this is not a Calendly token: it is empty, too long, or contains spaces or line breaks",
            code="token_unfit",
            remedy="Give only the token, on one line.",
        )
