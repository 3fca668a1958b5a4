"""What is kept of an agent's settings: what everybody may see as JSON, and what is secret sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.key_texts import remedy_for
from slotwire.ingest.foundation.sealing import SealingKeys, read_named_keys

VARIABLE = "SLOTWIRE_AGENTS__SETTINGS_KEYS"
EVERYBODY = ""
"""In place of an organization: the settings are for all that have none of their own."""


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """The settings of an agent, as they are kept.

    Attributes:
        agent: the agent's name.
        org: the organization, or `EVERYBODY`.
        version: grows with each change.
        document: what is not secret, by field.
        sealed: the secrets; None where there is none.
        disabled_at: since when they are not used, because their receiver is gone; None while they are.
        disabled_why: why, in one line.
    """

    agent: str
    org: str
    version: int
    document: Mapping[str, Any]
    sealed: bytes | None = field(default=None, repr=False)
    disabled_at: datetime | None = None
    disabled_why: str | None = None

    def values(self, keys: SealingKeys | None) -> dict[str, Any]:
        """Return every field that is set, secrets included.

        Raises:
            ConfigurationError: there are secrets, and this process has no key.
            SecretUnreadable: they do not open.
        """
        return {**self.document, **open_secrets(keys, self.agent, self.org, self.sealed)}


def settings_keys(settings: AgentsSettings) -> SealingKeys | None:
    """Read the keys that seal the secrets; None where none is set.

    Raises:
        ConfigurationError: one is malformed or weak, or a name or key comes twice.
    """
    entries = [each.get_secret_value() for each in settings.settings_keys]
    remedy = remedy_for(VARIABLE, named=True)
    found = read_named_keys(entries, VARIABLE, remedy=remedy, too_many="Remove keys that nothing is sealed with.")
    return SealingKeys(found, VARIABLE) if found else None


def seal_secrets(keys: SealingKeys | None, agent: str, org: str, secrets: Mapping[str, str]) -> bytes | None:
    """Seal secrets for their place; None where there is none.

    Raises:
        ConfigurationError: no key is set.
    """
    if not secrets:
        return None
    return _required(keys).seal(orjson.dumps(dict(secrets)), context=_place(agent, org))


def open_secrets(keys: SealingKeys | None, agent: str, org: str, sealed: bytes | None) -> dict[str, str]:
    """Open secrets in their place; see `StoredSettings.values`."""
    if sealed is None:
        return {}
    found: dict[str, str] = orjson.loads(_required(keys).open(sealed, context=_place(agent, org)))
    return found


def _place(agent: str, org: str) -> tuple[str, ...]:
    return ("agent_settings", agent, org)


def _required(keys: SealingKeys | None) -> SealingKeys:
    if keys is None:
        raise ConfigurationError(
            f"{VARIABLE} is not set, and the settings of this agent have secrets",
            remedy=f"{remedy_for(VARIABLE, named=True)}\nGive it to `slotwire control` and to the agent's process.",
        )
    return keys
