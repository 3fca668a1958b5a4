"""The settings of agents that come with Slotwire, for each organization: their forms, and how they are kept.

Operators set them through the management API; the agents read their own, by `slotwire.handlers.shipped`.

form    ShippedSettings: what all of them share; which fields are secrets
notify  of the agent that tells a webhook or a chat
nightly_digest   of the one that sends digests
no_show_sweeper  of the one that marks no-shows
stored  what is kept of them, and the keys that seal what is secret
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from slotwire.ingest.foundation.agent_settings.form import ShippedSettings
from slotwire.ingest.foundation.agent_settings.nightly_digest import NightlyDigestSettings
from slotwire.ingest.foundation.agent_settings.no_show_sweeper import NoShowSweeperSettings
from slotwire.ingest.foundation.agent_settings.notify import NotifySettings
from slotwire.ingest.foundation.agent_settings.stored import StoredSettings, settings_keys

__all__ = [
    "SHIPPED",
    "NightlyDigestSettings",
    "NoShowSweeperSettings",
    "NotifySettings",
    "ShippedSettings",
    "StoredSettings",
    "settings_keys",
]

SHIPPED: Mapping[str, type[ShippedSettings]] = MappingProxyType(
    {"nightly-digest": NightlyDigestSettings, "no-show-sweeper": NoShowSweeperSettings, "notify": NotifySettings}
)
"""The form of each agent's settings, by the agent's name."""
