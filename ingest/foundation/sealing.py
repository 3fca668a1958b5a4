"""Encrypts small secrets for the database, so that a copy of the database reveals none.

AES-256-GCM. A sealed secret is bound to its place: it does not open in another row or for another purpose.
 Layout, in octets:

    version (1) | length of the key's name (1) | the key's name | nonce (12) | ciphertext and tag (16)

Everything before the nonce and the context are associated data. Nonces are random: one key may seal 2^32
secrets before two nonces are likely to meet, far beyond what subscriptions and credentials need.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from slotwire.ingest.foundation.errors import ConfigurationError, SecretUnreadable
from slotwire.ingest.foundation.key_texts import read_key

MAX_SECRET_BYTES = 65_536
"""A longer secret is refused; credentials and keys are far shorter."""
MAX_KEYS = 32
"""The most keys of one setting; a rotation needs two."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16


class SealingKeys:
    """Keys by name: the first seals, all open. The text form shows only the names."""

    def __init__(self, keys: Mapping[str, bytes], source: str) -> None:
        """Take the keys.

        Args:
            keys: of 32 octets each; at least one.
            source: the setting they are from, for messages.
        """
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._sealing = next(iter(self._ciphers))
        self._source = source

    def __repr__(self) -> str:
        return f"{type(self).__name__}(keys={list(self._ciphers)})"

    @property
    def key_names(self) -> Sequence[str]:
        """The names of the keys, the sealing one first."""
        return tuple(self._ciphers)

    @property
    def head(self) -> bytes:
        """The beginning of every newly sealed secret; one that begins otherwise was sealed with another key."""
        name = self._sealing.encode()
        return bytes((_VERSION, len(name))) + name

    def seal(self, plaintext: bytes, *, context: tuple[str, ...]) -> bytes:
        """Seal a secret for one place.

        Args:
            plaintext: the secret, at most 64 KiB.
            context: the place it belongs to, for example table, organization and row.

        Raises:
            ValueError: the secret is too long.
        """
        if len(plaintext) > MAX_SECRET_BYTES:
            raise ValueError(f"a secret of {len(plaintext)} bytes is longer than {MAX_SECRET_BYTES}")
        head, nonce = self.head, secrets.token_bytes(_NONCE_BYTES)
        return head + nonce + self._ciphers[self._sealing].encrypt(nonce, plaintext, _bind(head, context))

    def open(self, sealed: bytes, *, context: tuple[str, ...]) -> bytes:
        """Open a secret in the place it was sealed for.

        Raises:
            SecretUnreadable: the place is another one, octets were changed, or we do not have the key.
        """
        if len(sealed) < 2 or sealed[0] != _VERSION:
            raise SecretUnreadable("a sealed secret has a format that this version does not know")
        start = 2 + sealed[1]
        if len(sealed) < start + _NONCE_BYTES + _TAG_BYTES:
            raise SecretUnreadable("a sealed secret is truncated")
        name = sealed[2:start].decode("ascii", "replace")
        cipher = self._ciphers.get(name)
        if cipher is None:
            shown = repr(name) if is_key_name(name) else "of another name"
            raise SecretUnreadable(
                f"a secret is sealed with the key {shown}, which {self._source} does not contain",
                remedy=f"Add that key to {self._source} again, after the others.",
            )
        nonce = sealed[start : start + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[start + _NONCE_BYTES :], _bind(sealed[:start], context))
        except InvalidTag:
            raise SecretUnreadable(
                f"a sealed secret does not open with the key {name!r}: it was changed or moved, or the key differs",
                remedy=f"Check that the key {name!r} in {self._source} is the one that sealed it.",
            ) from None


def read_named_keys(entries: Iterable[str], source: str, *, remedy: str, too_many: str) -> dict[str, bytes]:
    """Read entries `name:base64url of 32 bytes`.

    Args:
        entries: the entries, the sealing one first.
        source: the setting they are from, for messages.
        remedy: what to do about one that cannot be read.
        too_many: what to do where there are more than `MAX_KEYS`.

    Raises:
        ConfigurationError: one is malformed or weak, a name or key is repeated, or there are too many. No key is shown.
    """
    keys: dict[str, bytes] = {}
    for entry in entries:
        name, colon, text = entry.partition(":")
        if not colon or not is_key_name(name):
            raise ConfigurationError(
                f"an entry of {source} is not name:key, with a name of 1 to 32 letters, digits, '.', '_', '-'",
                remedy=remedy,
            )
        try:
            key = read_key(text, variable=source, exact=True, named=True)
        except ConfigurationError as error:
            raise ConfigurationError(error.message, remedy=remedy) from None
        if name in keys or key in keys.values():
            raise ConfigurationError(
                f"{source} contains the name or the key {name!r} twice",
                remedy="List each key once, under its own name; the first one seals.",
            )
        keys[name] = key
    if len(keys) > MAX_KEYS:
        raise ConfigurationError(f"{source} contains {len(keys)} keys; the most is {MAX_KEYS}", remedy=too_many)
    return keys


def is_key_name(name: str) -> bool:
    """Return whether a text has the form of a key's name, and so may be shown."""
    return _NAME.fullmatch(name) is not None


def key_name(sealed: bytes) -> str:
    """Return the name of the key that sealed a secret; empty if it is too short to have one."""
    return sealed[2 : 2 + sealed[1]].decode("ascii", "replace") if len(sealed) > 2 else ""


def _bind(head: bytes, context: tuple[str, ...]) -> bytes:
    """Encode a context unambiguously: each part after its length."""
    parts = (head, *(part.encode() for part in context))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
