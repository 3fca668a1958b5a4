"""Models of the management API for the scheduled work of agents. Their docstrings are its documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from slotwire.ingest.operate.models import Model, Org, Page, PageQuery


class ScheduleQuery(PageQuery):
    """Which scheduled work to list, by agent, name and organization."""

    organization: Org | None = None
    """Only for this organization."""
    agent: str | None = Field(None, min_length=1, max_length=63)
    """Only of this agent, as in `Agent("crm")`."""


class ScheduleItem(Model):
    """Scheduled work of an agent, for one organization."""

    agent: str
    """The agent's name."""
    schedule: str
    """The name of the work."""
    organization: str
    """The organization."""
    kind: Literal["clock", "before_start", "after_start", "after_end"]
    """Whether it is due at times of the clock, or at moments of bookings."""
    times: str
    """When it is due, in words."""
    missed: Literal["catch_up", "skip"]
    """What becomes of firings that no process of the agent was there for."""
    due_at: datetime | None
    """When it is due next. Null where no meeting is booked. Past where no process of the agent fires."""
    late_seconds: int
    """For how long it has been due and nobody has fired it, in seconds; 0 within the first minute."""
    waiting: int
    """Firings for this organization that are due and not done."""
    reached: datetime
    """Up to when the agent has looked what is due."""
    fired: int
    """Firings so far: of moments for this organization, of the clock for all of them."""
    fired_due: datetime | None
    """When the latest of them was due."""
    passed: int
    """Firings that were missed and are not done late, or of which too many came at once, likewise."""
    passed_due: datetime | None
    """When the latest of these was due."""


class SchedulePage(Page):
    """Scheduled work."""

    items: tuple[ScheduleItem, ...]
