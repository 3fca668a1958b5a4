"""The settings of the search for changes that Calendly does not tell."""

from __future__ import annotations

from pydantic import Field

from slotwire.ingest.foundation.settings_base import SettingsGroup


class ChangesSettings(SettingsGroup):
    """Changes of upcoming meetings that Calendly sends no webhook for: a host, a time, a guest or a place.

    `control` lists meetings and compares. A sweep takes a call for each 100 meetings of an organization, one for each
    that left the list without a cancellation, at most 50, and one besides.
    """

    interval_minutes: float | None = Field(None, ge=1)
    """How often upcoming meetings are compared; changes are then published as `io.slotwire.scheduled_event.changed`.
    Unset: never."""
    days_ahead: int = Field(14, ge=1, le=365)
    """Meetings that start within so many days are compared."""
