"""The vault: encrypts small secrets for the database, so that a copy of the database reveals none.

AES-256-GCM. A sealed secret is bound to its place: it does not open in another row or for another purpose.
 Layout, in octets:

    version (1) | length of the key's name (1) | the key's name | nonce (12) | ciphertext and tag (16)

Everything before the nonce and the context are associated data. Nonces are random: one key may seal 2^32
secrets before two nonces are likely to meet, far beyond what subscriptions and credentials need.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from slotwire.ingest.errors import SecretUnreadable
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys.vault_keys import VARIABLE, is_key_name, read_vault_keys

MAX_SECRET_BYTES = 65_536
"""A longer secret is refused; credentials and keys are far shorter."""

_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_MARK_BYTES = 16


class Vault:
    """Keys by name: the first seals, all open. The text form shows only the names."""

    def __init__(self, keys: Mapping[str, bytes], source: str = VARIABLE) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        # A key of its own for marks, so that no octet of a sealing key is used for two things.
        self._marking = {name: hmac.digest(key, b"slotwire marks", "sha256") for name, key in keys.items()}
        self._sealing = next(iter(self._ciphers))
        self._source = source

    @classmethod
    def from_settings(cls, settings: VaultSettings) -> Self:
        """Read the keys from where the settings say: see `slotwire.ingest.keys.vault_keys`.

        Raises:
            ConfigurationError: there is none, one is malformed or weak, or a name or key comes twice.
        """
        found = read_vault_keys(settings)
        return cls(found.keys, found.source)

    def __repr__(self) -> str:
        return f"Vault(keys={list(self._ciphers)})"

    @property
    def key_names(self) -> Sequence[str]:
        """The names of the keys, the sealing one first."""
        return tuple(self._ciphers)

    @property
    def head(self) -> bytes:
        """The beginning of every newly sealed secret; one that begins otherwise was sealed with another key."""
        name = self._sealing.encode()
        return bytes((_VERSION, len(name))) + name

    def mark(self, address: str) -> str:
        """Return a keyed hash of a mail address, by which it can be found and not read: the key's name, a colon, hex.

        Upper and lower case are one. Who removes the key cannot find by it any more.
        """
        return self._mark(self._sealing, address)

    def marks(self, address: str) -> Sequence[str]:
        """Return the hashes of a mail address by every key: one of them was made of it, whenever that was."""
        return tuple(self._mark(name, address) for name in self._marking)

    def _mark(self, name: str, address: str) -> str:
        folded = address.strip().casefold().encode("utf-8", "replace")
        return f"{name}:{hmac.digest(self._marking[name], folded, 'sha256')[:_MARK_BYTES].hex()}"

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


def key_name(sealed: bytes) -> str:
    """Return the name of the key that sealed a secret; empty if it is too short to have one."""
    return sealed[2 : 2 + sealed[1]].decode("ascii", "replace") if len(sealed) > 2 else ""


def _bind(head: bytes, context: tuple[str, ...]) -> bytes:
    """Encode a context unambiguously: each part after its length."""
    parts = (head, *(part.encode() for part in context))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
