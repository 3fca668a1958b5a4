"""Prints one line per event, as it happens.

    slotwire agents run slotwire.handlers.agents.demo:agent
    slotwire agents run slotwire.handlers.agents.demo:json_agent     (one JSON object a line)
    slotwire agents run slotwire.handlers.agents.demo:local_agent    (with the names of meetings)

All events of a booking and its reschedules have the same symbol and colour, so that you can follow them. The last
column is the time from the delivery's arrival to this handler. No person is named: invitees and meetings are shown by
the first characters of their identifiers, because what is printed is the log of a container, and a meeting's name may
name whom it is with. `slotwire local` runs `local_agent`: its people are invented.

When a meeting begins, which Calendly tells nobody, it prints a line, too: that is a moment, derived from the booking.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from slotwire.handlers import Agent, Context, Event, Moment
from slotwire.ingest.foundation.printable import one_line
from slotwire.schemas.events import (
    EVENT_CLASSES,
    InviteeCanceled,
    InviteeCreated,
    InviteeNoShowCreated,
    InviteeNoShowDeleted,
    InviteeRescheduled,
    RoutingFormSubmissionCreated,
)
from slotwire.schemas.ids import last_segment

agent = Agent("demo")
json_agent = Agent("demo")
local_agent = Agent("demo")

_SYMBOLS = "●◆■▲★✚◉◈▼✦"
_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_WORD_WIDTH = 14
_MEETING_WIDTH = 26
_WORDS = {
    InviteeCreated.type: "booked",
    InviteeCanceled.type: "cancelled",
    InviteeRescheduled.type: "moved",
    InviteeNoShowCreated.type: "no-show",
    InviteeNoShowDeleted.type: "no-show undone",
    RoutingFormSubmissionCreated.type: "form submitted",
}


@agent.on(*EVENT_CLASSES)
async def print_line(event: Event[Any], ctx: Context) -> None:
    """Print a line for a person."""
    _print(line_of(event, latency_ms=_latency_ms(ctx), colour=sys.stdout.isatty()))


@local_agent.on(*EVENT_CLASSES)
async def print_named_line(event: Event[Any], ctx: Context) -> None:
    """Print a line for a person, with the meeting's name."""
    _print(line_of(event, latency_ms=_latency_ms(ctx), colour=sys.stdout.isatty(), named=True))


@json_agent.on(*EVENT_CLASSES)
async def print_json(event: Event[Any], ctx: Context) -> None:
    """Print a line for a program."""
    _print(json.dumps(facts_of(event, latency_ms=_latency_ms(ctx))))


@agent.at(after_start=timedelta(0))
@local_agent.at(after_start=timedelta(0))
async def begun(moment: Moment, ctx: Context) -> None:
    """Print a line for a person when a meeting begins."""
    _print(line_of_moment(moment, ctx.event.key, late=_late(moment, ctx), colour=sys.stdout.isatty()))


@json_agent.at(after_start=timedelta(0), name="begun")
async def begun_json(moment: Moment, ctx: Context) -> None:
    """Print a line for a program when a meeting begins."""
    _print(json.dumps(facts_of_moment(moment, ctx, late=_late(moment, ctx))))


def line_of(event: Event[Any], *, latency_ms: float, colour: bool, named: bool = False) -> str:
    """Return an event as a line: symbol, invitee, what happened, which meeting, when, the state now, latency."""
    data = event.data
    word = _word_of(event)
    if isinstance(data, InviteeCanceled) and data.rescheduled:
        word = "moved away"
    when = _when(_start_of(data))
    about = _shortened(_name_of(data)) if named else _meeting_of(data)
    if isinstance(data, InviteeRescheduled) and data.old_start_time:
        about = f"from {_when(data.old_start_time)}"
    mark = " (inferred)" if event.inferred else ""
    what = _columns(event.subject, word, about, when, _state_of(data))
    return f"{_symbol_of(event.key, colour=colour)} {what} {latency_ms:6.1f} ms{mark}"


def line_of_moment(moment: Moment, key: str, *, late: timedelta, colour: bool) -> str:
    """Return the beginning of a meeting as a line, with the symbol of its booking; the last column is how late it is.

    Args:
        moment: which meeting begins.
        key: of its firing.
        late: how late it is.
        colour: whether the line goes to a terminal.
    """
    chain = key.partition(" ")[2]
    until = f"until {_when(moment.end_time)}"
    what = _columns(moment.invitee, "begins", until, _when(moment.start_time), "active")
    said = (
        f"{late.total_seconds():6.1f} s"
        if late < timedelta(hours=1)
        else str(timedelta(seconds=int(late.total_seconds())))
    )
    return f"{_symbol_of(chain, colour=colour)} {what} {said} late"


def facts_of_moment(moment: Moment, ctx: Context, *, late: timedelta) -> dict[str, Any]:
    """Return the same facts by name."""
    return {
        "id": str(moment.id),
        "type": ctx.event.type,
        "organization": ctx.organization,
        "chain": ctx.event.key.partition(" ")[2],
        "subject": moment.invitee,
        "what": "begins",
        "start_time": moment.start_time.astimezone(UTC).isoformat(),
        "latency_ms": round(late.total_seconds() * 1000, 1),
    }


def _columns(subject: str, word: str, about: str, when: str, state: str) -> str:
    story = f"{word:<{_WORD_WIDTH}}  {about}"
    invitee = one_line(last_segment(subject)[:8])
    return f"{invitee:<8}  {story:<{_WORD_WIDTH + 2 + _MEETING_WIDTH}}  {when:<16}  {state:<8}"


def _symbol_of(chain: str, *, colour: bool) -> str:
    number = hashlib.sha256(chain.encode()).digest()[0] % len(_SYMBOLS)
    return f"\x1b[{_COLOURS[number]}m{_SYMBOLS[number]}\x1b[0m" if colour else _SYMBOLS[number]


def facts_of(event: Event[Any], *, latency_ms: float) -> dict[str, Any]:
    """Return the same facts by name; times are RFC 3339 in UTC."""
    start = _start_of(event.data)
    booking = getattr(event.data, "booking", None)
    return {
        "id": str(event.id),
        "type": event.type,
        "organization": event.organization,
        "chain": event.key,
        "subject": event.subject,
        "what": _word_of(event),
        "meeting": _meeting_of(event.data) or None,
        "start_time": start.astimezone(UTC).isoformat() if start else None,
        "state": _state_of(event.data) or None,
        "revision": booking.revision if booking else None,
        "inferred": event.inferred,
        "latency_ms": round(latency_ms, 1),
    }


def _word_of(event: Event[Any]) -> str:
    """Return what happened in words. A type without words of its own gives, for example, `contact updated`."""
    resource, verb = event.type.split(".")[-3:-1]
    return _WORDS.get(event.type, f"{resource} {verb}".replace("_", " "))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _latency_ms(ctx: Context) -> float:
    since = ctx.event.recorded_time or ctx.published_at
    return max(0.0, (ctx.started_at - since).total_seconds() * 1000)


def _late(moment: Moment, ctx: Context) -> timedelta:
    return max(timedelta(0), ctx.started_at - moment.due)


def _meeting_of(data: Any) -> str:
    """Return the first characters of a meeting's identifier."""
    scheduled = getattr(data, "scheduled_event", None)
    uri = scheduled if isinstance(scheduled, str) else getattr(scheduled, "uri", None) or ""
    return one_line(last_segment(uri)[:8]) if uri else ""


def _name_of(data: Any) -> str:
    scheduled = getattr(data, "scheduled_event", None)
    return str(getattr(scheduled, "name", None) or "")


def _start_of(data: Any) -> datetime | None:
    if isinstance(data, InviteeRescheduled):
        return data.start_time
    start: datetime | None = getattr(getattr(data, "scheduled_event", None), "start_time", None)
    return start


def _state_of(data: Any) -> str:
    booking = getattr(data, "booking", None)
    if booking is None:
        return ""
    return "no-show" if booking.no_show else str(booking.state)


def _when(time: datetime | None) -> str:
    return f"{time.astimezone(UTC):%a %d %b %H:%M}" if time else ""


def _shortened(text: str) -> str:
    """Fit a name into its column, without control characters: the text comes from strangers."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= _MEETING_WIDTH else f"{clean[: _MEETING_WIDTH - 1]}…"
