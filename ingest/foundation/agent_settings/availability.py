"""The settings of `availability-sync`: how far ahead availability is kept, and how fresh."""

from __future__ import annotations

from pydantic import Field

from slotwire.ingest.foundation.agent_settings.form import ShippedSettings


class AvailabilitySettings(ShippedSettings):
    """Keep when users can be booked. To set any of these, `dry_run=false` for example, switches it on."""

    days: int = Field(14, ge=1, le=28)
    """How many days ahead are read."""
    refresh_minutes: int = Field(30, ge=1, le=60)
    """Without any news of a user, what is known is read again after so many minutes."""
    list_minutes: int = Field(60, ge=1, le=1_440)
    """Event types are listed so often."""
    calls_a_round: int = Field(60, ge=3, le=1_000)
    """Calls at Calendly in a round, one round a minute; what is left waits for the next. An event type costs one, each
    of its users one for each seven days."""
