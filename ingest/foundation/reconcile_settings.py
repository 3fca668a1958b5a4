"""The settings of reconciling: how holes are filled."""

from __future__ import annotations

from pydantic import Field

from slotwire.ingest.foundation.settings_base import SettingsGroup


class ReconcileSettings(SettingsGroup):
    """Filling holes: fetching from Calendly what may have been missed."""

    look_back_days: int = Field(30, ge=1, le=730)
    """How long before a hole began a meeting may have started for its cancellations and no-shows to be read again. More
    days take more calls: one for each meeting."""
    interval_seconds: float = Field(15.0, ge=1)
    """How often `slotwire control` looks for holes to fill."""
