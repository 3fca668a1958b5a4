"""When an organization's next round is due, and what it lists. Pure.

Listing may take `SHARE` of a user's rate limit. A round calls Calendly once to confirm whose the token is, once for the
subscriptions of the whole organization, and once for each user and group that it lists. Users and groups take turns.

    limit a minute   organization   users and groups in a round   so each of N is listed every
    500 (paid)       60 s           8                             N / 8 minutes
    50 (free)        180 s          1                             3 N minutes
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from slotwire.ingest.control.subscription_facts import Place

SHARE = 0.02
"""The part of a user's rate limit that goes to listing."""
UNKNOWN_LIMIT = 50
"""Calls a minute until Calendly has said how many: those of the free plan."""
SILENT = timedelta(seconds=15)
"""The shortest time between two rounds of an organization whose silence is unusual."""
MAX_PLACES = 100
"""Users and groups listed in one round."""

_WHOLE: Place = ("organization", "")


@dataclass(frozen=True, slots=True)
class ListingTurn:
    """What a round lists.

    Attributes:
        places: scopes and subjects.
        after: where the next round goes on.
        completes: whether every user and group was then listed since the rotation began.
    """

    places: frozenset[Place]
    after: str
    completes: bool

    @property
    def calls(self) -> int:
        """Calls that it takes."""
        return 1 + len(self.places)


def turn(known: Iterable[Place], after: str, *, limit: int | None, interval: timedelta, silent: bool) -> ListingTurn:
    """Choose what a round lists.

    Args:
        known: places with subscriptions, wanted or ours.
        after: where the last round ended; empty to begin.
        limit: calls that the user has in a minute; None if that is not known.
        interval: the time between two rounds.
        silent: whether the organization's silence is unusual: then all is listed, as far as one round can.
    """
    others = {f"{scope} {subject}": (scope, subject) for scope, subject in known if (scope, subject) != _WHOLE}
    names = sorted(others)
    begin = bisect_right(names, after) if after else 0
    some = max(1, int(_calls_a_minute(limit) * interval.total_seconds() / 60) - 2)
    chosen = names[begin : begin + min(MAX_PLACES, len(names) if silent else some)]
    completes = begin + len(chosen) >= len(names)
    places = frozenset({_WHOLE, *(others[name] for name in chosen)})
    return ListingTurn(places, "" if completes else chosen[-1], completes)


def pause_after(calls: int, *, limit: int | None, interval: timedelta, silent: bool) -> timedelta:
    """Return how long after a round of so many calls the next one is due."""
    least = min(SILENT, interval) if silent else interval
    return max(least, timedelta(seconds=60 * calls / _calls_a_minute(limit)))


def _calls_a_minute(limit: int | None) -> float:
    return SHARE * max(1, UNKNOWN_LIMIT if limit is None else limit)
