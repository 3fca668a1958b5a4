"""The settings of agents that come with Slotwire, for each organization: their forms, and how they are kept.

Operators set them through the management API; the agents read their own, by `slotwire.handlers.shipped.agent`.

form    ShippedSettings: what all of them share; which fields are secrets
availability  of the agent that keeps when users can be booked
notify  of the agent that tells a webhook or a chat
reschedule  of the agent that moves bookings
nightly_digest   of the one that sends digests
no_show_sweeper  of the one that marks no-shows
stored  what is kept of them, and the keys that seal what is secret
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from slotwire.ingest.foundation.agent_settings.availability import AvailabilitySettings
from slotwire.ingest.foundation.agent_settings.form import ShippedSettings
from slotwire.ingest.foundation.agent_settings.nightly_digest import NightlyDigestSettings
from slotwire.ingest.foundation.agent_settings.no_show_sweeper import NoShowSweeperSettings
from slotwire.ingest.foundation.agent_settings.notify import NotifySettings
from slotwire.ingest.foundation.agent_settings.reschedule import AwayTime, Prefer, RescheduleSettings
from slotwire.ingest.foundation.agent_settings.stored import StoredSettings, settings_keys

__all__ = [
    "SHIPPED",
    "AvailabilitySettings",
    "AwayTime",
    "NightlyDigestSettings",
    "NoShowSweeperSettings",
    "NotifySettings",
    "Prefer",
    "RescheduleSettings",
    "ShippedSettings",
    "StoredSettings",
    "settings_keys",
]

SHIPPED: Mapping[str, type[ShippedSettings]] = MappingProxyType(
    {
        "availability-sync": AvailabilitySettings,
        "nightly-digest": NightlyDigestSettings,
        "no-show-sweeper": NoShowSweeperSettings,
        "notify": NotifySettings,
        "reschedule-assistant": RescheduleSettings,
    }
)
"""The form of each agent's settings, by the agent's name."""
