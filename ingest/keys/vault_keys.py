"""Where the vault's keys come from: the environment, a file, or your own provider. Exactly one of them.

A provider is a callable without arguments that returns entries `name:base64url of 32 bytes`, the sealing one first,
as in SLOTWIRE_VAULT__KEYS; for example, one that unwraps them with a key service. A package offers it through the
entry point group `slotwire.vault_keys`:

    [project.entry-points."slotwire.vault_keys"]
    my-kms = "my_package.keys:unwrapped"

It is called once per process, and only if SLOTWIRE_VAULT__KEYS_PROVIDER names it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.key_texts import remedy_for
from slotwire.ingest.foundation.sealing import read_named_keys
from slotwire.ingest.foundation.settings import VaultSettings

VARIABLE = "SLOTWIRE_VAULT__KEYS"
FILE_VARIABLE = "SLOTWIRE_VAULT__KEYS_FILE"
PROVIDER_VARIABLE = "SLOTWIRE_VAULT__KEYS_PROVIDER"
GROUP = "slotwire.vault_keys"
MAX_FILE_BYTES = 16_384
"""A longer file is refused."""
_WRITABLE_BY_OTHERS = 0o002


class KeyProvider(Protocol):
    """Provides the vault's keys."""

    def __call__(self) -> Iterable[str]:
        """Return entries `name:base64url of 32 bytes`, the sealing one first."""
        ...


@dataclass(frozen=True, slots=True)
class VaultKeys:
    """The vault's keys, and where they came from.

    Attributes:
        source: the setting's name, for messages.
        keys: by name, the sealing one first; never shown.
    """

    source: str
    keys: dict[str, bytes] = field(repr=False)


def read_vault_keys(settings: VaultSettings) -> VaultKeys:
    """Read the keys from the source that the settings name.

    Raises:
        ConfigurationError: there is no key, there is more than one source, a key is malformed or weak, or a name
            or key is repeated. No key is ever shown.
    """
    set_ = {VARIABLE: settings.keys, FILE_VARIABLE: settings.keys_file, PROVIDER_VARIABLE: settings.keys_provider}
    named = [name for name, value in set_.items() if value]
    if len(named) > 1:
        raise ConfigurationError(
            f"the vault's keys are set in more than one place: {', '.join(named)}",
            remedy="Keep one of them, and unset the others.",
        )
    if settings.keys_file:
        return VaultKeys(FILE_VARIABLE, _parse(_in_file(settings.keys_file), FILE_VARIABLE))
    if settings.keys_provider:
        return VaultKeys(PROVIDER_VARIABLE, _parse(_provided(settings.keys_provider), PROVIDER_VARIABLE))
    if not settings.keys:
        raise ConfigurationError(f"{VARIABLE} is not set", remedy=remedy_for(VARIABLE, named=True))
    return VaultKeys(VARIABLE, _parse([entry.get_secret_value() for entry in settings.keys], VARIABLE))


def _parse(entries: Iterable[str], source: str) -> dict[str, bytes]:
    rotate = "Run `slotwire keys vault rotate`, then remove the keys that are no longer used."
    return read_named_keys(entries, source, remedy=_remedy(source), too_many=rotate)


def _remedy(source: str) -> str:
    if source == VARIABLE:
        return remedy_for(VARIABLE, named=True)
    where = "the file" if source == FILE_VARIABLE else "what the provider returns"
    return f"Correct {where}: entries `name:key`, the key as base64url of 32 random bytes."


def _in_file(name: str) -> list[str]:
    """Read entries from a file: one per line, or separated by commas, as in a mounted secret."""
    remedy = f"{FILE_VARIABLE} must name a file that this process may read, with `name:key` on each line."
    path = Path(name)
    try:
        if path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise ConfigurationError(
                f"any user of this machine can write the file of {FILE_VARIABLE}, so its keys cannot be trusted",
                remedy=f"chmod o-w {name}",
            )
        with path.open("rb") as file:
            octets = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        why = (error.strerror or "it cannot be read").lower()
        raise ConfigurationError(f"the file of {FILE_VARIABLE}, {name}: {why}", remedy=remedy) from None
    if len(octets) > MAX_FILE_BYTES:
        raise ConfigurationError(f"the file of {FILE_VARIABLE} is longer than {MAX_FILE_BYTES} bytes", remedy=remedy)
    text = octets.decode("ascii", "replace")
    entries = [part.strip() for line in text.splitlines() for part in line.split(",") if part.strip()]
    if not entries:
        raise ConfigurationError(f"the file of {FILE_VARIABLE} contains no key", remedy=remedy)
    return entries


@cache
def _provided(name: str) -> tuple[str, ...]:
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if name not in found:
        offered = ", ".join(sorted(found)) or "none"
        raise ConfigurationError(
            f"{PROVIDER_VARIABLE} names {name!r}, which no installed package offers; offered are: {offered}",
            remedy=f"Install the package that offers this entry point in the group {GROUP}.",
        )
    try:
        provider: KeyProvider = found[name].load()
        entries = tuple(provider())
    except Exception as error:  # noqa: BLE001 -- the provider is not our code, and its message may contain secrets
        raise ConfigurationError(
            f"the provider {name!r} failed ({type(error).__name__})",
            remedy="Check that the key service it calls can be reached and accepts this process.",
        ) from None
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise ConfigurationError(
            f"the provider {name!r} returned no keys",
            remedy="It must return entries `name:key`, the sealing one first.",
        )
    return entries
