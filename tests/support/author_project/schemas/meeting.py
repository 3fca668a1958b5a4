"""A meeting as the CRM stores it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Meeting:
    """A meeting of one invitee."""

    invitee: str
    starts_at: datetime | None
