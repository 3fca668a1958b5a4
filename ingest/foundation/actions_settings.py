"""The settings of actions: what is done at Calendly for callers."""

from __future__ import annotations

from pydantic import Field

from slotwire.ingest.foundation.settings_base import Names, SettingsGroup


class ActionsSettings(SettingsGroup):
    """Actions: bookings, cancellations, reschedules and no-show marks that callers ask for."""

    tag: bool = True
    """Mark bookings in a tracking field that the caller left empty (`utm_term`, else `utm_content`). Without the mark,
    a booking whose answer was lost is found only by its slot and address, and counts as `probable`."""
    agents: Names = ()
    """Names of agents that may cancel, reschedule and mark the meetings of the events they handle; `*` for all. Each
    agent's process says its name itself. Unset: agents read at Calendly only."""
    interval_seconds: float = Field(2.0, ge=0.1)
    """How often `slotwire control` looks for actions whose outcome is not known yet."""
