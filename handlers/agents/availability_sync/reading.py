"""What is read at Calendly next, what its answers say, and what of it is new. Pure.

Source: docs/reference/calendly.md, "REST": available times span 31 days at most, busy times seven.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slotwire.ingest.foundation.agent_settings import AvailabilitySettings
from slotwire.schemas.availability import BusyTime, OpenSlot

BUSY_SPAN = timedelta(days=7)
"""What one call for busy times covers."""
MAX_SLOTS = 2_500
"""Open slots, or busy times, of one user and event type: what begins later is left out, and `ends` says so."""


@dataclass(frozen=True, slots=True, order=True)
class Offer:
    """A user and an event type of theirs: the key of everything here."""

    user: str
    event_type: str

    @property
    def of_user(self) -> bool:
        """Whether it is a user's; a team has no busy times."""
        return "/users/" in self.user


@dataclass(frozen=True, slots=True)
class Known:
    """What the table has of an offer.

    Attributes:
        ends: up to when it is known; None if it was never read.
        due_since: since when something says that it has changed.
        gone: it has ended, and its tombstone is not in the topic yet.
    """

    offer: Offer
    ends: datetime | None = None
    slots: tuple[OpenSlot, ...] = ()
    busy: tuple[BusyTime, ...] = ()
    read_at: datetime | None = None
    due_since: datetime | None = None
    gone: bool = False


def offers_in(event_types: Iterable[Mapping[str, Any]]) -> frozenset[Offer]:
    """Read a list of event types: those that can be booked, each with whom it belongs to."""
    found = set()
    for each in event_types:
        profile = each.get("profile")
        owner = profile.get("owner") if isinstance(profile, dict) else None
        uri = each.get("uri")
        if isinstance(owner, str) and isinstance(uri, str) and each.get("active") and not each.get("deleted_at"):
            found.add(Offer(owner, uri))
    return frozenset(found)


def ends_after(now: datetime, days: int) -> datetime:
    """Return up to when is read: the same all day, so that it is not news with each round."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)


def due(known: Iterable[Known], settings: AvailabilitySettings, now: datetime) -> tuple[Offer, ...]:
    """Choose what is read in this round: what was never read first, then what has changed, then the oldest.

    A user's busy times are read once for all of their offers that are due.
    """
    old = now - timedelta(minutes=settings.refresh_minutes)
    waiting = [
        each for each in known if not each.gone and (each.due_since or each.read_at is None or each.read_at <= old)
    ]
    chosen, users, calls = list[Offer](), set[str](), 0
    weeks = -(-settings.days // BUSY_SPAN.days)
    for each in sorted(waiting, key=_urgency):
        cost = 1 + (weeks if each.offer.of_user and each.offer.user not in users else 0)
        if chosen and calls + cost > settings.calls_a_round:
            break
        calls += cost
        users.add(each.offer.user)
        chosen.append(each.offer)
    return tuple(chosen)


def _urgency(known: Known) -> tuple[int, datetime, Offer]:
    if known.read_at is None:
        return 0, datetime.min.replace(tzinfo=UTC), known.offer
    if known.due_since is not None:
        return 1, known.due_since, known.offer
    return 2, known.read_at, known.offer


def by_user(offers: Iterable[Offer]) -> Mapping[str, Sequence[Offer]]:
    """Group offers by their users, in the order given."""
    found: defaultdict[str, list[Offer]] = defaultdict(list)
    for each in offers:
        found[each.user].append(each)
    return found


def weeks_of(start: datetime, ends: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """Cut a time into pieces that one call for busy times covers."""
    pieces, at = list[tuple[datetime, datetime]](), start
    while at < ends:
        pieces.append((at, min(at + BUSY_SPAN, ends)))
        at += BUSY_SPAN
    return tuple(pieces)


def slots_in(items: Iterable[Mapping[str, Any]]) -> tuple[OpenSlot, ...]:
    """Read available times, in order."""
    found = {
        (slot := OpenSlot.model_validate(each)).start_time: slot for each in items if each.get("status") == "available"
    }
    return tuple(found[at] for at in sorted(found))


def busy_in(items: Iterable[Mapping[str, Any]]) -> tuple[BusyTime, ...]:
    """Read busy times, in order; one that two calls tell of is one."""
    found = set()
    for each in items:
        start, end = (each.get(f"buffered_{name}") or each.get(name) for name in ("start_time", "end_time"))
        found.add(BusyTime.model_validate({"start_time": start, "end_time": end, "type": each.get("type")}))
    return tuple(sorted(found, key=lambda each: (each.start_time, each.end_time, each.type or "")))


def bounded(known: Known) -> Known:
    """Leave out what is too much, and say up to when everything is there."""
    cut = [each[MAX_SLOTS].start_time for each in (known.slots, known.busy) if len(each) > MAX_SLOTS]
    if not cut or known.ends is None:
        return known
    ends = min(cut)
    return Known(
        known.offer,
        ends,
        tuple(each for each in known.slots if each.start_time < ends),
        tuple(each for each in known.busy if each.start_time < ends),
        known.read_at,
    )


def differs(old: Known, new: Known, now: datetime) -> bool:
    """Whether something is news: what is over by now is not missed."""
    if old.gone or old.read_at is None or old.ends != new.ends:
        return True
    slots = tuple(each for each in old.slots if each.start_time > now)
    busy = tuple(each for each in old.busy if each.end_time > now)
    return (slots, busy) != (
        tuple(each for each in new.slots if each.start_time > now),
        tuple(each for each in new.busy if each.end_time > now),
    )
