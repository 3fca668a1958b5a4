"""Keys of ours that come through the settings: how they are read, and how one is made."""

from __future__ import annotations

import base64
import re

from slotwire.ingest.errors import ConfigurationError

KEY_BYTES = 32
"""How long a key is."""
MIN_DISTINCT_OCTETS = 10
"""Fewer in 32 octets is a placeholder, not a key: chance gives that less than once in 10^30."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_MINT = "openssl rand -base64 32 | tr '+/' '-_'"


def remedy_for(variable: str, *, named: bool) -> str:
    """Say how a key is made and where it goes."""
    made = f'"k1:$({_MINT})"' if named else f'"$({_MINT})"'
    return f"Make one and keep it as a secret:\n  export {variable}={made}"


def read_key(text: str, *, variable: str, exact: bool, named: bool) -> bytes:
    """Decode one key, written as base64url with or without padding.

    Args:
        text: the key, without its name.
        variable: the setting it came from, for the message.
        exact: whether more than 32 bytes are refused.
        named: whether keys of this setting carry a name; only for the message.

    Raises:
        ConfigurationError: not base64url, too short, too long, or a placeholder. The key is never shown.
    """
    remedy = remedy_for(variable, named=named)
    try:
        key = decode_base64url(text)
    except ValueError:
        raise ConfigurationError(f"a key in {variable} is not base64url", remedy=remedy) from None
    if len(key) < KEY_BYTES or (exact and len(key) > KEY_BYTES):
        wanted = f"{KEY_BYTES}" if exact else f"at least {KEY_BYTES}"
        raise ConfigurationError(f"a key in {variable} has {len(key)} bytes, {wanted} are needed", remedy=remedy)
    if len(set(key)) < MIN_DISTINCT_OCTETS:
        raise ConfigurationError(f"a key in {variable} is not random", remedy=remedy)
    return key


def decode_base64url(text: str) -> bytes:
    """Decode base64url, padded or not.

    Raises:
        ValueError: another alphabet, or a length that no octets have.
    """
    bare = text.rstrip("=")
    # b64decode with other characters still takes '+' and '/', so the alphabet is checked here.
    if not _BASE64URL.fullmatch(bare) or len(bare) % 4 == 1:
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))


def encode_base64url(octets: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
