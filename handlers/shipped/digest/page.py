"""Puts a digest into words: facts in, a page of sections and rows out, in which each piece says whether it was typed.

Pure. What a stranger typed is a `Typed` from here on, bounded and without invisible characters; `text.py` and `html.py`
show a page, and are the only code that turns a `Typed` into output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from slotwire.handlers.shipped.digest.days import changes_clocks, offset_of, span_of
from slotwire.handlers.shipped.digest.facts import (
    AttentionKind,
    ChangeKind,
    DigestAttention,
    DigestChange,
    DigestFacts,
    DigestMeeting,
    DigestPerson,
)
from slotwire.handlers.shipped.digest.words import visible

MAX_SHOWN = 100
"""Rows of a section; how many more there are is said."""
MAX_PEOPLE = 10
"""People of one meeting that are named."""
MAX_TYPED = 80
"""Characters of a name, an address or a title."""
MAX_REASON = 200
"""Characters of the reason of a cancellation."""

_CHANGES = {
    ChangeKind.NEW: "New",
    ChangeKind.MOVED: "Moved",
    ChangeKind.CANCELED: "Canceled",
    ChangeKind.NO_SHOW: "No-show",
    ChangeKind.NO_SHOW_CLEARED: "No-show cleared",
}
_ATTENTION = {
    AttentionKind.SUBSCRIPTIONS: (
        "webhook subscription was lost",
        "webhook subscriptions were lost",
        "subscriptions list",
    ),
    AttentionKind.CONNECTIONS: ("connection cannot act", "connections cannot act", "connections list"),
    AttentionKind.EXPIRING: ("connection ends soon", "connections end soon", "connections list"),
    AttentionKind.HOLES: ("gap in what Calendly told", "gaps in what Calendly told", "reconcile --list"),
    AttentionKind.QUARANTINE: ("delivery could not be read", "deliveries could not be read", "quarantine list"),
    AttentionKind.DEAD_LETTERS: (
        "event was given up by an agent",
        "events were given up by agents",
        "dead-letters list",
    ),
    AttentionKind.RUNS: ("run of an agent is held", "runs of agents are held", "agents runs list"),
    AttentionKind.APPROVALS: ("approval is asked for", "approvals are asked for", "agents approvals list"),
    AttentionKind.ACTIONS: ("action is with a person", "actions are with a person", "actions list --state person"),
}
_LOCATIONS = {
    "physical": "in person",
    "outbound_call": "by telephone, the host calls",
    "inbound_call": "by telephone, the invitee calls",
    "google_conference": "Google Meet",
    "zoom": "Zoom",
    "gotomeeting": "GoTo Meeting",
    "microsoft_teams_conference": "Microsoft Teams",
    "webex_conference": "Webex",
    "ask_invitee": "where the invitee said",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A stranger's text: one line of visible characters, bounded.

    Attributes:
        text: it; never empty.
    """

    text: str


Piece = str | Typed
"""Our own words, or a stranger's."""


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row: a short lead, what it is about, and lines that say more.

    Attributes:
        lead: our own words.
        about: pieces of one line.
        more: further lines.
    """

    lead: str
    about: tuple[Piece, ...]
    more: tuple[tuple[Piece, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PageSection:
    """Rows under a title.

    Attributes:
        title: our own words.
        rows: at most `MAX_SHOWN`.
        rest: what is not shown, in words; empty where all is.
    """

    title: str
    rows: tuple[PageRow, ...]
    rest: str = ""


@dataclass(frozen=True, slots=True)
class DigestPage:
    """A digest in words.

    Attributes:
        subject: one line of our own words.
        heading: the same for the page itself.
        zone: which times it shows.
        host: whose digest it is; empty for the whole organization.
        sections: in order.
    """

    subject: str
    heading: str
    zone: str
    host: tuple[Piece, ...]
    sections: tuple[PageSection, ...]


def page_of(facts: DigestFacts) -> DigestPage:
    """Put a digest into words."""
    day = _day(datetime.combine(facts.day, datetime.min.time()))
    meetings = _counted(len(facts.meetings), facts.more_meetings, "meeting", "meetings")
    subject = f"{meetings[0].upper()}{meetings[1:]} on {day}"
    if facts.changes:
        subject += f", {_counted(len(facts.changes), facts.more_changes, 'change', 'changes')}"
    if facts.attention:
        subject += ", needs attention"
    start, _ = span_of(facts.day, facts.zone)
    offset = (
        "clocks change on this day"
        if changes_clocks(facts.day, facts.zone)
        else offset_of(start.astimezone(facts.zone))
    )
    sections = [PageSection(f"{day}: {meetings}", *_shown(_meetings(facts), facts.more_meetings))]
    if facts.changes:
        title = "Changes" if facts.since is None else f"Changes since {_moment(facts.since, facts.zone)}"
        sections.append(PageSection(title, *_shown(_changes(facts), facts.more_changes)))
    if facts.attention:
        sections.append(PageSection("Needs attention", *_shown(_attention(facts), more=False)))
    host = _typed(facts.host, MAX_TYPED)
    return DigestPage(
        subject=subject,
        heading=f"Bookings for {day}",
        zone=f"Times in {facts.zone.key} ({offset})",
        host=() if host is None else ("Meetings hosted by ", host),
        sections=tuple(sections),
    )


def _shown(rows: Iterator[PageRow], more: bool) -> tuple[tuple[PageRow, ...], str]:
    made = tuple(rows)
    left = len(made) - MAX_SHOWN
    return made[:MAX_SHOWN], "and more" if more else f"and {left} more" if left > 0 else ""


def _meetings(facts: DigestFacts) -> Iterator[PageRow]:
    telling = changes_clocks(facts.day, facts.zone)
    for meeting in facts.meetings:
        more = [_person(person) for person in meeting.people[:MAX_PEOPLE]]
        if len(meeting.people) > MAX_PEOPLE:
            more.append((f"and {len(meeting.people) - MAX_PEOPLE} more",))
        where = _place(meeting)
        yield PageRow(
            _span(meeting, facts.zone, telling=telling),
            (_typed(meeting.title, MAX_TYPED) or "a meeting",),
            (*more, *([where] if where else [])),
        )


def _place(meeting: DigestMeeting) -> tuple[Piece, ...]:
    """Say where a meeting is and who hosts it."""
    where: list[Piece] = []
    if meeting.location_type is not None:
        where.append(_LOCATIONS.get(meeting.location_type, "at a place of the host's"))
    for host in filter(None, (_typed(host, MAX_TYPED) for host in meeting.hosts[:MAX_PEOPLE])):
        where += ["; host " if where else "host ", host]
    return tuple(where)


def _changes(facts: DigestFacts) -> Iterator[PageRow]:
    for change in facts.changes:
        about: list[Piece] = [_typed(change.title, MAX_TYPED) or "a meeting"]
        if change.old_start is not None:
            about.append(f", from {_moment(change.old_start, facts.zone)}")
        if change.start is not None:
            about.append(f"{' to' if change.old_start is not None else ','} {_moment(change.start, facts.zone)}")
        more = [_person(change.person), *_why(change)]
        yield PageRow(_CHANGES[change.kind], tuple(about), tuple(more))


def _why(change: DigestChange) -> Sequence[tuple[Piece, ...]]:
    """Say who canceled and why, where it is known."""
    who = {"host": "by the host", "invitee": "by the invitee"}.get(change.canceler or "", "")
    reason = _typed(change.reason, MAX_REASON)
    if reason is None:
        return [(who,)] if who else []
    return [(f"{who}: " if who else "reason: ", reason)]


def _attention(facts: DigestFacts) -> Iterator[PageRow]:
    for each in facts.attention:
        yield PageRow(str(each.number), (_what(each, facts.zone),), ((f"slotwire {_ATTENTION[each.kind][2]}",),))


def _what(each: DigestAttention, zone: ZoneInfo) -> str:
    one, several, _ = _ATTENTION[each.kind]
    since = "" if each.since is None else f", the oldest since {_moment(each.since, zone)}"
    return (one if each.number == 1 else several) + (since if each.number > 1 else since.replace(", the oldest", ","))


def _person(person: DigestPerson) -> tuple[Piece, ...]:
    name, email = _typed(person.name, MAX_TYPED), _typed(person.email, MAX_TYPED)
    pieces: list[Piece] = [name or "somebody without a name"]
    if email is not None:
        pieces += [", ", email]
    if person.no_show:
        pieces.append(" (no-show)")
    return tuple(pieces)


def _typed(text: str | None, most: int) -> Typed | None:
    shown = visible(text, most)
    return Typed(shown) if shown else None


def _counted(number: int, more: bool, one: str, several: str) -> str:
    if more:
        return f"more than {number} {several}"
    return f"{number or 'no'} {one if number == 1 else several}"


def _span(meeting: DigestMeeting, zone: ZoneInfo, *, telling: bool) -> str:
    start = _local(meeting.start, zone)
    begins = _clock(start, telling=telling)
    if meeting.end is None:
        return begins
    end = _local(meeting.end, zone)
    return f"{begins}-{_clock(end, telling=telling)}{'' if end.date() == start.date() else ' next day'}"


def _clock(local: datetime, *, telling: bool) -> str:
    return f"{local:%H:%M}" + (f" ({offset_of(local)})" if telling else "")


def _moment(instant: datetime, zone: ZoneInfo) -> str:
    local = _local(instant, zone)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M}"


def _local(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return a time by the clocks of a zone; the last one that there is has none beyond it, and stays as it is."""
    try:
        return instant.astimezone(zone)
    except OverflowError:
        return instant


def _day(local: datetime) -> str:
    return f"{local:%A}, {local.day} {local:%B %Y}"
