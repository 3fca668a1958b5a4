"""The settings of `reschedule-assistant`: when somebody is away, and where to bookings are moved then."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from slotwire.ingest.foundation.agent_settings.form import ShippedSettings

MAX_AWAY = 200
"""Away times of an organization."""
MAX_EVENT_TYPES = 200
Prefer: TypeAlias = Literal["soonest", "same_time", "same_weekday"]


class AwayTime(BaseModel):
    """A time in which somebody is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    begins: AwareDatetime
    """When it begins, with a zone."""
    ends: AwareDatetime
    """When it ends."""
    user: str | None = Field(None, min_length=1, max_length=2_000)
    """The host's URI or its last segment; everybody in the organization without one."""

    @model_validator(mode="after")
    def _it_ends_after_it_begins(self) -> Self:
        if self.ends <= self.begins:
            raise ValueError("an away time ends after it begins")
        return self


class RescheduleSettings(ShippedSettings):
    """Move bookings out of times in which somebody is away."""

    away: tuple[AwayTime, ...] = Field((), max_length=MAX_AWAY)
    """Bookings that overlap one of these are moved."""
    event_types: tuple[str, ...] = Field((), max_length=MAX_EVENT_TYPES)
    """Only bookings of these event types, by URI or its last segment; all if empty."""
    within_days: int = Field(14, ge=1, le=30)
    """The new slot begins so many days after the old one at most."""
    notice_hours: int = Field(24, ge=0, le=336)
    """The new slot begins so many hours from now at least."""
    prefer: Prefer = "same_time"
    """`soonest`; `same_time` of day, else the soonest; `same_weekday` at the same time, else the same weekday, else the
    soonest. Days and times are those of the invitee's time zone."""
    reason: str = Field("The host is away at that time.", min_length=1, max_length=1_000)
    """The invitee reads it with the cancellation of the old slot."""
    ask: str | None = Field(None, min_length=1, max_length=200)
    """Who is to approve each move, in words that they understand; nobody is asked without it."""
    ask_hours: int = Field(24, ge=1, le=336)
    """After so many hours without a decision the booking stays as it is."""
