"""How long a limit of Calendly's holds back a call that was not sent. Pure.

    our own count of the limit says when     until then: it is known to the second
    Calendly refuses it, the first time      as long as Calendly says, or a minute
    Calendly refuses it again after that     others spend the same limit: twice as long each time, at most an hour
    Calendly refuses it for a day and more   no limit that is documented: a person decides

Source: docs/reference/calendly.md, "REST", rate limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

FIRST_WAIT = timedelta(minutes=1)
"""The least wait after a refusal."""
LONGEST_WAIT = timedelta(hours=1)
"""The longest after refusals one after the other: by then a part of any limit is free again."""
MAX_REFUSALS = 30
"""After so many, 25 hours of waiting at least, it is no limit that Calendly documents: the longest lasts a day."""


@dataclass(frozen=True, slots=True)
class Held:
    """A call that a limit holds back.

    Attributes:
        until: it is made then, or held back again.
        refusals: how often Calendly has refused this step.
    """

    until: datetime
    refusals: int = 0

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> Self | None:
        """Read it as it is stored; None for none."""
        return None if stored is None else cls(datetime.fromisoformat(stored["until"]), stored["refusals"])

    def stored(self) -> dict[str, Any]:
        """Write it for the row."""
        return {"until": self.until.isoformat(), "refusals": self.refusals}

    @property
    def endless(self) -> bool:
        """Whether Calendly has refused it for longer than any limit lasts."""
        return self.refusals > MAX_REFUSALS


def held_back(wait: float, *, refused: bool, before: Held | None, now: datetime) -> Held:
    """Say until when a call is held back.

    Args:
        wait: seconds, as our own count or Calendly says.
        refused: Calendly refused it; else it was not sent, because it would have.
        before: what held it back until now, if something did.
        now: the time.
    """
    wanted, refusals = timedelta(seconds=wait), 0 if before is None else before.refusals
    if not refused:
        return Held(now + wanted, refusals)
    doubled = FIRST_WAIT * 2 ** min(refusals, 10)
    return Held(now + max(wanted, min(doubled, LONGEST_WAIT)), refusals + 1)
