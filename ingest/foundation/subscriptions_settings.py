"""The settings of the subscription manager."""

from __future__ import annotations

from pydantic import Field

from slotwire.ingest.foundation.settings_base import SettingsGroup


class SubscriptionsSettings(SettingsGroup):
    """Webhook subscriptions at Calendly."""

    interval_seconds: float = Field(60.0, ge=1)
    """How often `slotwire control` lists an organization's subscriptions, where 2 % of the rate limit allows it."""
    overlap_hours: float = Field(24.0, gt=0, le=720)
    """A new subscription without a delivery is verified after so long, if the one that it replaces had none either."""
