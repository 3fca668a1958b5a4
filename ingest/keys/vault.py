"""The vault: encrypts small secrets for the database, so that a copy of the database reveals none."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Self

from slotwire.ingest.foundation.sealing import MAX_SECRET_BYTES, SealingKeys, key_name
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys.vault_keys import VARIABLE, read_vault_keys

__all__ = ["MAX_SECRET_BYTES", "Vault", "key_name"]

_MARK_BYTES = 16


class Vault(SealingKeys):
    """Keys by name: the first seals, all open. The text form shows only the names."""

    def __init__(self, keys: Mapping[str, bytes], source: str = VARIABLE) -> None:
        super().__init__(keys, source)
        # A key of its own for marks, so that no octet of a sealing key is used for two things.
        self._marking = {name: hmac.digest(key, b"slotwire marks", "sha256") for name, key in keys.items()}

    @classmethod
    def from_settings(cls, settings: VaultSettings) -> Self:
        """Read the keys from where the settings say: see `slotwire.ingest.keys.vault_keys`.

        Raises:
            ConfigurationError: there is none, one is malformed or weak, or a name or key comes twice.
        """
        found = read_vault_keys(settings)
        return cls(found.keys, found.source)

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
