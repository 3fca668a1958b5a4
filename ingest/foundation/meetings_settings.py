"""The settings of the events about scheduled events that Slotwire derives."""

from __future__ import annotations

from pydantic import Field

from slotwire.ingest.foundation.settings_base import SettingsGroup


class MeetingsSettings(SettingsGroup):
    """Events of the moments of scheduled events, which Calendly does not tell: `control` writes them."""

    events: bool = False
    """Publish `io.slotwire.meeting.starting`, `…started` and `…ended`, once for each scheduled event, from then on."""
    starting_minutes: int = Field(15, ge=1, le=1440)
    """How long before its start a scheduled event counts as starting."""
