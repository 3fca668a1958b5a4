"""Keys from the settings: decoded, checked, and how to make one."""

from __future__ import annotations

import base64
import re

from slotwire.ingest.foundation.errors import ConfigurationError

KEY_BYTES = 32
"""Length of a key."""
MIN_DISTINCT_OCTETS = 10
"""A key with fewer distinct octets is taken for a placeholder: 32 random ones have fewer once in 10^30 times."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_MINT = "openssl rand -base64 32 | tr '+/' '-_'"


def remedy_for(variable: str, *, named: bool) -> str:
    """Return how to make a key for a setting, and where it goes."""
    made = f'"k1:$({_MINT})"' if named else f'"$({_MINT})"'
    return f"Make a key and store it as a secret:\n  export {variable}={made}"


def read_key(text: str, *, variable: str, exact: bool, named: bool) -> bytes:
    """Decode one key, written as base64url with or without padding.

    Args:
        text: the key, without a name.
        variable: the setting it came from, for messages.
        exact: whether a key longer than 32 bytes is refused.
        named: whether keys of this setting have names, for messages.

    Raises:
        ConfigurationError: not base64url, too short, too long, or a placeholder. The key is never shown.
    """
    remedy = remedy_for(variable, named=named)
    try:
        key = decode_base64url(text)
    except ValueError:
        raise ConfigurationError(f"a key in {variable} is not base64url", remedy=remedy) from None
    if len(key) < KEY_BYTES or (exact and len(key) > KEY_BYTES):
        needed = f"{KEY_BYTES}" if exact else f"at least {KEY_BYTES}"
        raise ConfigurationError(f"a key in {variable} has {len(key)} bytes, it must have {needed}", remedy=remedy)
    if len(set(key)) < MIN_DISTINCT_OCTETS:
        raise ConfigurationError(f"a key in {variable} is not random", remedy=remedy)
    return key


def decode_base64url(text: str) -> bytes:
    """Decode base64url, padded or not.

    Raises:
        ValueError: a character outside the alphabet, or an impossible length.
    """
    bare = text.rstrip("=")
    # b64decode with `altchars` still accepts '+' and '/', so the alphabet is checked here.
    if not _BASE64URL.fullmatch(bare) or len(bare) % 4 == 1:
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))


def encode_base64url(octets: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
