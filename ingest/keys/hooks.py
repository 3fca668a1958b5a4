"""Hook addresses: the URL names the subscription of a delivery, and a server key authenticates the URL.

A hook is base64url(id | mac): 16 random octets and the first 16 of their HMAC-SHA256. A forged hook is refused by
arithmetic, before any look-up. The id alone is not secret, so the database stores only the id.
A hook is a capability: never log it; log `masked(hook)`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import NewType, Self

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.key_texts import decode_base64url, encode_base64url, read_key, remedy_for
from slotwire.ingest.foundation.settings import Settings

HookId = NewType("HookId", str)
"""The id in a subscription's address: 22 characters, not secret."""

VARIABLE = "SLOTWIRE_HTTP__HOOK_KEYS"
PATH = "/hooks/calendly/"
ID_BYTES = 16
MAC_BYTES = 16
HOOK_LENGTH = 43
"""Characters of a hook."""

_LABEL = b"slotwire hook v1\0"
# The last character has two bits of padding; only the spelling that we mint is accepted.
_HOOK = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)


class HookAddresses:
    """Mints hooks and reads them back. Its text form shows no key."""

    def __init__(self, keys: tuple[bytes, ...], public_url: str = "") -> None:
        self._keys = keys
        self._public_url = public_url

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the server keys; the first mints, all are accepted.

        Raises:
            ConfigurationError: there is none, or one is malformed, weak or repeated.
        """
        return cls(hook_keys(settings), settings.public_url)

    def __repr__(self) -> str:
        return f"HookAddresses(keys={len(self._keys)}, public_url={self._public_url!r})"

    def mint(self) -> HookId:
        """Make the id of a new hook."""
        return HookId(encode_base64url(secrets.token_bytes(ID_BYTES)))

    def hook(self, hook_id: HookId) -> str:
        """Return the path segment for an id: a secret."""
        octets = decode_base64url(hook_id)
        return encode_base64url(octets + _mac(self._keys[0], octets))

    def read(self, hook: str) -> HookId | None:
        """Return the id of a hook made with one of our keys, or None. Takes the same time for every key."""
        return HookId(encode_base64url(decode_base64url(hook)[:ID_BYTES])) if self.is_ours(hook) else None

    def is_ours(self, hook: str) -> bool:
        """Return whether a hook was made with one of our keys. Takes the same time for every key."""
        if not _HOOK.fullmatch(hook):
            return False
        octets = decode_base64url(hook)
        identifier, mac = octets[:ID_BYTES], octets[ID_BYTES:]
        genuine = False
        for key in self._keys:
            genuine |= hmac.compare_digest(_mac(key, identifier), mac)
        return genuine

    def read_url(self, url: str) -> HookId | None:
        """Return the id of the hook at the end of an address on any host, or None."""
        return self.read(url.rpartition("/")[2])

    def is_here(self, url: str) -> bool:
        """Return whether an address is under the public address of the settings."""
        return bool(self._public_url) and url.rpartition("/")[0] == f"{self._public_url}{PATH}".rstrip("/")

    def url(self, hook_id: HookId) -> str:
        """Return the whole address for Calendly: a secret.

        Raises:
            ConfigurationError: `SLOTWIRE_PUBLIC_URL` is not set.
        """
        if not self._public_url:
            raise ConfigurationError(
                "SLOTWIRE_PUBLIC_URL is not set, so Calendly has no address to send to",
                remedy="Set it to the https address under which Calendly reaches `slotwire serve`.",
            )
        return f"{self._public_url}{PATH}{self.hook(hook_id)}"


def hook_keys(settings: Settings) -> tuple[bytes, ...]:
    """Read the server keys that sign addresses of ours; the first signs, all are accepted.

    Raises:
        ConfigurationError: there is none, or one is malformed, weak or repeated.
    """
    if not settings.http.hook_keys:
        raise ConfigurationError(f"{VARIABLE} is not set", remedy=remedy_for(VARIABLE, named=False))
    keys = tuple(
        read_key(key.get_secret_value(), variable=VARIABLE, exact=False, named=False) for key in settings.http.hook_keys
    )
    if len(set(keys)) < len(keys):
        raise ConfigurationError(f"{VARIABLE} contains a key twice", remedy="List each key once; the first one mints.")
    return keys


def masked(hook: str) -> str:
    """Return the part of a hook that may be logged: its first six characters, with unsafe ones replaced."""
    return re.sub(r"[^A-Za-z0-9_-]", "?", hook[:6]) + "…"


def _mac(key: bytes, identifier: bytes) -> bytes:
    return hmac.digest(key, _LABEL + identifier, "sha256")[:MAC_BYTES]
