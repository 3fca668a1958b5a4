"""The settings of retention: how long each kind stays in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from slotwire.ingest.foundation.settings_base import PREFIX, SettingsGroup


class RetentionSettings(SettingsGroup):
    """How many days things stay in Postgres; what is unset stays for ever.

    What is not written, not published, parked or waiting stays longer. Bookings, the ids of events, and what agents
    remember of chains always stay.
    """

    bodies_days: int | None = Field(None, ge=7)
    """Deliveries as they came. A whole day is dropped at once, as of results and events."""
    results_days: int | None = Field(None, ge=7)
    """What became of each delivery; at least as long as bodies."""
    events_days: int | None = Field(None, ge=7)
    """The log; at least as long as the topics keep records, since a record may refer to it for its data."""
    inbox_days: int | None = Field(None, ge=7)
    """What agents have settled; at least as long as the topics keep records, or an effect could happen twice."""
    quarantine_days: int | None = Field(None, ge=7)
    """Quarantined deliveries, counted from when they were retried or discarded."""
    dead_letters_days: int | None = Field(None, ge=7)
    """Dead letters, counted from when they were handled again or discarded; those in their topics go with the topic."""
    audit_days: int | None = Field(None, ge=30)
    """Who changed what."""
    actions_days: int | None = Field(None, ge=30)
    """Actions, counted from when they were settled. A caller's key is known so long. Those with a person stay."""
    uses_days: int | None = Field(None, ge=30)
    """Calls to Calendly with customers' credentials: about 1 KB a call, a whole day dropped at once. `slotwire doctor`
    says how fast they grow."""

    @model_validator(mode="after")
    def _results_outlive_bodies(self) -> Self:
        if self.results_days is not None and (self.bodies_days is None or self.results_days < self.bodies_days):
            raise ValueError(
                f"{PREFIX}RETENTION__RESULTS_DAYS must be at least {PREFIX}RETENTION__BODIES_DAYS:"
                " a delivery without its result looks unwritten"
            )
        return self

    def kept(self) -> Sequence[tuple[str, int]]:
        """Return the kinds that are kept for a time, with their days; results after the bodies they belong to."""
        every = ((name.removesuffix("_days"), value) for name, value in self)
        return [(kind, days) for kind, days in every if days is not None]
