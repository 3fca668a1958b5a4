"""The vault: seals small secrets for the database, so that a copy of it opens nothing.

AES-256-GCM. A sealed secret is bound to its place: opening it in another row, or with another meaning,
fails. Layout, in octets:

    version (1) | length of the key's name (1) | the key's name | nonce (12) | ciphertext and tag (16)

Everything before the nonce and the context are associated data. Nonces are random: one key may seal 2^32
secrets before two nonces are likely to meet, far beyond what subscriptions and credentials need.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ingest.control.server_keys import read_key, remedy_for
from ingest.errors import ConfigurationError, SecretUnreadable
from ingest.foundation.settings import VaultSettings

VARIABLE = "SLOTWIRE_VAULT__KEYS"
MAX_SECRET_BYTES = 65_536
"""A longer secret is refused: nothing this vault is for comes near."""

_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")


class Vault:
    """Keys by name; the first seals, all open. Its text form shows the names only."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._sealing = next(iter(self._ciphers))

    @classmethod
    def from_settings(cls, settings: VaultSettings) -> Self:
        """Read the keys.

        Raises:
            ConfigurationError: there is none, one is malformed or weak, or a name or key comes twice.
        """
        if not settings.keys:
            raise ConfigurationError(f"{VARIABLE} is not set", remedy=remedy_for(VARIABLE, named=True))
        keys: dict[str, bytes] = {}
        for entry in settings.keys:
            name, colon, text = entry.get_secret_value().partition(":")
            if not colon or not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"an entry of {VARIABLE} is not name:key, with a name of 1 to 32 letters, digits, '.', '_', '-'",
                    remedy=remedy_for(VARIABLE, named=True),
                )
            key = read_key(text, variable=VARIABLE, exact=True, named=True)
            if name in keys or key in keys.values():
                raise ConfigurationError(
                    f"{VARIABLE} holds the name or the key {name!r} twice",
                    remedy="Keep each key once, under a name of its own; the first one seals.",
                )
            keys[name] = key
        return cls(keys)

    def __repr__(self) -> str:
        return f"Vault(keys={list(self._ciphers)})"

    @property
    def key_names(self) -> Sequence[str]:
        """The names of the keys, the sealing one first."""
        return tuple(self._ciphers)

    def seal(self, plaintext: bytes, *, context: tuple[str, ...]) -> bytes:
        """Seal a secret for one place.

        Args:
            plaintext: the secret, 64 KiB at the most.
            context: where it belongs, for example table, organization, kind and row.

        Raises:
            ValueError: the secret is too long.
        """
        if len(plaintext) > MAX_SECRET_BYTES:
            raise ValueError(f"a secret of {len(plaintext)} bytes is longer than {MAX_SECRET_BYTES}")
        name = self._sealing.encode()
        head = bytes((_VERSION, len(name))) + name
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return head + nonce + self._ciphers[self._sealing].encrypt(nonce, plaintext, _bind(head, context))

    def open(self, sealed: bytes, *, context: tuple[str, ...]) -> bytes:
        """Open a secret in the place it was sealed for.

        Raises:
            SecretUnreadable: another place, changed octets, or a key we do not have.
        """
        if len(sealed) < 2 or sealed[0] != _VERSION:
            raise SecretUnreadable("a sealed secret has a form that this version does not know")
        start = 2 + sealed[1]
        if len(sealed) < start + _NONCE_BYTES + _TAG_BYTES:
            raise SecretUnreadable("a sealed secret is cut short")
        name = sealed[2:start].decode("ascii", "replace")
        cipher = self._ciphers.get(name)
        if cipher is None:
            shown = repr(name) if _NAME.fullmatch(name) else "of another name"
            raise SecretUnreadable(
                f"a secret is sealed with the key {shown}, which {VARIABLE} does not hold",
                remedy=f"Add that key to {VARIABLE} again, after the others.",
            )
        nonce = sealed[start : start + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[start + _NONCE_BYTES :], _bind(sealed[:start], context))
        except InvalidTag:
            raise SecretUnreadable(
                f"a sealed secret does not open with the key {name!r}: it was changed, moved, or the key is another",
                remedy=f"Check that {VARIABLE} still holds the key that was called {name!r} when it was sealed.",
            ) from None


def _bind(head: bytes, context: tuple[str, ...]) -> bytes:
    """Encode what a secret is bound to, so that no two contexts read the same: each part after its length."""
    parts = (head, *(part.encode() for part in context))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
