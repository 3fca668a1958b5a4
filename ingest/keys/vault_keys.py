"""Where the vault's keys come from: the environment, a file, or a provider of one's own. Exactly one of them.

A provider is a callable without arguments that returns entries of the form `name:base64url of 32 bytes`, the
sealing one first, as SLOTWIRE_VAULT__KEYS has them: for example one that lets a key service unwrap them. A package
offers it through the entry point group `slotwire.vault_keys`:

    [project.entry-points."slotwire.vault_keys"]
    my-kms = "my_package.keys:unwrapped"

It is called once a process, and only where SLOTWIRE_VAULT__KEYS_PROVIDER names it.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.settings import VaultSettings
from slotwire.ingest.keys.server_keys import read_key, remedy_for

VARIABLE = "SLOTWIRE_VAULT__KEYS"
FILE_VARIABLE = "SLOTWIRE_VAULT__KEYS_FILE"
PROVIDER_VARIABLE = "SLOTWIRE_VAULT__KEYS_PROVIDER"
GROUP = "slotwire.vault_keys"
MAX_FILE_BYTES = 16_384
"""A longer file holds something else."""
MAX_KEYS = 32
"""Keys of one vault; rotation leaves two."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_WRITABLE_BY_OTHERS = 0o002


class KeyProvider(Protocol):
    """Gives the vault's keys."""

    def __call__(self) -> Iterable[str]:
        """Return entries `name:base64url of 32 bytes`, the sealing one first."""
        ...


@dataclass(frozen=True, slots=True)
class VaultKeys:
    """The keys, and where they came from.

    Attributes:
        source: the setting's name, for messages.
        keys: by name, the sealing one first; never shown.
    """

    source: str
    keys: dict[str, bytes] = field(repr=False)


def is_key_name(name: str) -> bool:
    """Tell whether a text can be a key's name, and so may be shown."""
    return _NAME.fullmatch(name) is not None


def read_vault_keys(settings: VaultSettings) -> VaultKeys:
    """Read the keys from where the settings say.

    Raises:
        ConfigurationError: there is none, they are in more than one place, one is malformed or weak, or a name
            or key comes twice. No key is ever shown.
    """
    set_ = {VARIABLE: settings.keys, FILE_VARIABLE: settings.keys_file, PROVIDER_VARIABLE: settings.keys_provider}
    named = [name for name, value in set_.items() if value]
    if len(named) > 1:
        raise ConfigurationError(
            f"the vault's keys are in two places: {' and '.join(named)}",
            remedy="Keep one of them, and unset the other.",
        )
    if settings.keys_file:
        return VaultKeys(FILE_VARIABLE, _parse(_in_file(settings.keys_file), FILE_VARIABLE))
    if settings.keys_provider:
        return VaultKeys(PROVIDER_VARIABLE, _parse(_provided(settings.keys_provider), PROVIDER_VARIABLE))
    if not settings.keys:
        raise ConfigurationError(f"{VARIABLE} is not set", remedy=remedy_for(VARIABLE, named=True))
    return VaultKeys(VARIABLE, _parse([entry.get_secret_value() for entry in settings.keys], VARIABLE))


def _parse(entries: Iterable[str], source: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for entry in entries:
        name, colon, text = entry.partition(":")
        if not colon or not is_key_name(name):
            raise ConfigurationError(
                f"an entry of {source} is not name:key, with a name of 1 to 32 letters, digits, '.', '_', '-'",
                remedy=_remedy(source),
            )
        try:
            key = read_key(text, variable=source, exact=True, named=True)
        except ConfigurationError as error:
            raise ConfigurationError(error.message, remedy=_remedy(source)) from None
        if name in keys or key in keys.values():
            raise ConfigurationError(
                f"{source} holds the name or the key {name!r} twice",
                remedy="Keep each key once, under a name of its own; the first one seals.",
            )
        keys[name] = key
    if len(keys) > MAX_KEYS:
        raise ConfigurationError(
            f"{source} holds {len(keys)} keys, {MAX_KEYS} are the most",
            remedy="Run `slotwire keys vault rotate`, then remove the keys that are not used any more.",
        )
    return keys


def _remedy(source: str) -> str:
    if source == VARIABLE:
        return remedy_for(VARIABLE, named=True)
    where = "that file" if source == FILE_VARIABLE else "what it returns"
    return f"Correct {where}: entries `name:key`, the key as base64url of 32 random bytes."


def _in_file(name: str) -> list[str]:
    """Read entries from a file: one a line, or separated by commas, as a mounted secret may have them."""
    remedy = f"{FILE_VARIABLE} must name a file that this process may read, with `name:key` on each line."
    path = Path(name)
    try:
        if path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise ConfigurationError(
                f"everybody on this machine may write the file of {FILE_VARIABLE}: its keys cannot be trusted",
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
        raise ConfigurationError(f"the file of {FILE_VARIABLE} holds no key", remedy=remedy)
    return entries


@cache
def _provided(name: str) -> tuple[str, ...]:
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if name not in found:
        there = ", ".join(sorted(found)) or "none"
        raise ConfigurationError(
            f"{PROVIDER_VARIABLE} names {name!r}, which no installed package offers; there is: {there}",
            remedy=f"Install the package whose entry point in the group {GROUP} has this name.",
        )
    try:
        provider: KeyProvider = found[name].load()
        entries = tuple(provider())
    except Exception as error:  # noqa: BLE001 -- the edge to foreign code, whose message may hold what is secret
        raise ConfigurationError(
            f"the provider {name!r} gave no keys ({type(error).__name__})",
            remedy="Is what it asks in reach, and does it let this process in?",
        ) from None
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise ConfigurationError(
            f"the provider {name!r} gave no keys", remedy="It must return entries `name:key`, the sealing one first."
        )
    return entries
