"""Deliveries for tests that try everything: valid ones as Calendly could send them, and broken ones.

Everything here is a Hypothesis strategy, or makes one. Bodies about invitees name a few of them again and again
(`INVITEES`), so that copies, chains and toggles of one booking meet in one batch.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import orjson
from hypothesis import strategies as st
from pydantic import AwareDatetime

from slotwire.ingest.log.normalize import KNOWN_EVENTS, InviteeEvent
from slotwire.schemas.calendly import InviteePayload, Part
from slotwire.schemas.events import RESOURCE_EVENTS
from tools.expected import scenarios

INVITEES = [f"https://api.calendly.com/scheduled_events/E{number % 2}/invitees/I{number}" for number in range(6)]
"""Fewer than `MAX_LINKS`, so that valid bodies never contradict each other too often."""
MARKS = [f"https://api.calendly.com/invitee_no_shows/N{number}" for number in range(4)]

_OFFSETS = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=12))])
_LAST = datetime(9000, 1, 1)  # noqa: DTZ001 - hypothesis wants bounds without a zone, and adds one
TIMES = st.datetimes(min_value=datetime(1970, 1, 1), max_value=_LAST, timezones=_OFFSETS).map(datetime.isoformat)  # noqa: DTZ001 - as above
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
"""Whatever Postgres takes as text."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=2)

_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    NoneType: st.none(),
    str: TEXT.filter(bool),
    bool: st.booleans(),
    int: st.integers(-(2**53) + 1, 2**53 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    UUID: st.uuids().map(str),
    AwareDatetime: TIMES,
}


@cache
def objects(cls: type[Part]) -> st.SearchStrategy[dict[str, Any]]:
    """Return payloads that a class accepts: each field absent (where it may be), null, or of its type."""
    fields = {field.alias or name: (field, values(field.annotation)) for name, field in cls.model_fields.items()}
    return st.fixed_dictionaries(
        {name: strategy for name, (field, strategy) in fields.items() if field.is_required()},
        optional={name: strategy for name, (field, strategy) in fields.items() if not field.is_required()}
        | {"not_known_yet": OBJECTS},
    )


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Return what an annotation of our classes accepts."""
    origin, inner = get_origin(annotation), get_args(annotation)
    composed: dict[Any, Callable[[], st.SearchStrategy[Any]]] = {
        Annotated: lambda: values(inner[0]),
        Union: lambda: st.one_of(*map(values, inner)),
        UnionType: lambda: st.one_of(*map(values, inner)),
        list: lambda: st.lists(values(inner[0]), max_size=2),
        Literal: lambda: st.sampled_from(inner),
        dict: lambda: OBJECTS,
    }
    if origin is not None:
        return composed[origin]()
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return objects(annotation)
    return _SIMPLE[annotation]


@st.composite
def drawn_payloads(draw: st.DrawFn) -> bytes:
    """Draw every field of a payload by its class; invitees, links and marks are a few known ones."""
    event = draw(st.sampled_from(sorted(KNOWN_EVENTS)))
    if event in RESOURCE_EVENTS:
        payload = draw(objects(RESOURCE_EVENTS[event]))
    else:
        links = st.none() | st.sampled_from(INVITEES)
        payload = draw(objects(InviteePayload)) | {"uri": draw(st.sampled_from(INVITEES))}
        payload |= {name: draw(links) for name in ("old_invitee", "new_invitee") if payload.get(name)}
        if event == InviteeEvent.NO_SHOW_CREATED.value:
            payload["no_show"] = {"uri": draw(st.sampled_from(MARKS)), "created_at": draw(st.none() | TIMES)}
    sent = draw(st.none() | TIMES)
    return orjson.dumps({"event": event, "created_at": sent, "created_by": draw(st.none() | TEXT), "payload": payload})


@cache
def _scenario_bodies(event: str | None = None) -> list[bytes]:
    return [path.read_bytes() for path in scenarios() if event in {None, path.parent.name}]


def shuffled(value: Any, chance: random.Random) -> Any:
    """Put the keys of every object in another order."""
    if isinstance(value, dict):
        names = chance.sample(list(value), len(value))
        return {name: shuffled(value[name], chance) for name in names}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


@st.composite
def rewritten_bodies(draw: st.DrawFn, event: str | None = None) -> bytes:
    """Take a scenario as another subscription could send it: keys in another order, another envelope, more fields."""
    body = orjson.loads(draw(st.sampled_from(_scenario_bodies(event))))
    body["created_at"] = draw(TIMES)
    body["created_by"] = draw(st.none() | TEXT)
    body["payload"] |= {"unheard_of": draw(JSON)} if draw(st.booleans()) else {}
    return orjson.dumps(shuffled(body, random.Random(draw(st.integers(0, 2**32)))))  # noqa: S311 - no secret


def _readable_bodies(event: str | None = None) -> st.SearchStrategy[bytes]:
    return st.sampled_from(_scenario_bodies(event)) | rewritten_bodies(event)


def valid_bodies() -> st.SearchStrategy[bytes]:
    """Return bodies that must become events: scenarios, rewritten scenarios, and payloads drawn by field."""
    return _readable_bodies() | drawn_payloads()


def nested(levels: int, *, within: Any = 1) -> Any:
    """Nest objects and lists by turns."""
    for level in range(levels):
        within = {"x": within} if level % 2 else [within]
    return within


ODD_TIMES = [
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
    *("2026-02-30T00:00:00Z", "2026-11-23T09:00:00", "2026-11-23T24:00:00Z", "1700000000", "2026-W01-1T00:00:00Z"),
    *("2026-11-23T09:00:00.123456789Z", "2026-11-23 09:00:00+23:59", "20261123T090000Z", 1700000000, -1, 1e18, 2**53),
]
"""Times at the ends of what there is, and what is nearly a time."""
ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**64 - 1, 1e308, -1e-308),
    *("", "\0", "a\0b", " ", "é" * 2000, "x" * 2000, "x" * 2001, "\U0001f600" * 2000, "x" * 70_000, "NaN"),
    *("null", "\ufffe\uffff", "%s{}'\";--", "\r\nX: y", "\x1b[2J"),
    *([], {}, [[]], [None], {"": None}, {"uri": "x"}, {"extra": {"extra": 1}}, ["x"] * 300, nested(60), nested(90)),
]
"""Values of the wrong type, the wrong size, or at the end of a range."""
ODD_TOKENS = [
    *(b"NaN", b"-Infinity", b"Infinity", b"1e400", b"-1e400", b"1" * 30, b"1" * 400, b"1" * 5000, b"-0", b"01", b"1."),
    *(rb'"\ud800"', rb'"\udc00\ud800"', rb'"\u0000"', rb'{"\u0000":1}', b'"\x01"', b"'x'", b"undefined", b"\xff"),
    *(b'{"a":1,"a":2}', rb'{"\u0065xtra":{"n":NaN}}', b"[" * 70 + b"]" * 70, b"[" * 5000 + b"]" * 5000, b""),
]
"""What no encoder of ours would write, in place of a value."""
_ODD = st.sampled_from([orjson.dumps(value) for value in ODD_VALUES]).map(orjson.loads)
_PLACE = "\x7fhere\x7f"
_NAMES = ["extra", "invitee", "uri", "payload", "event", "booking", "\0", "", "x" * 3000]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a tree, as what holds it and under which key or index."""
    found: list[tuple[Any, Any]] = []
    level: list[Any] = [value]
    while level:
        holder = level.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        found += [(holder, key) for key in keys]
        level += [holder[key] for key in keys if isinstance(holder[key], dict | list)]
    return found


def _bend(draw: st.DrawFn, places: list[tuple[Any, Any]], kind: str) -> None:
    """Change one place of a tree, or its times."""
    holder, key = places[draw(st.integers(0, len(places) - 1))]
    if kind == "gone":
        del holder[key]
    elif kind == "times":
        odd = draw(st.sampled_from(ODD_TIMES))
        for where, name in places:
            if str(name).endswith(("_at", "_time")) and draw(st.booleans()):
                where[name] = odd
    elif kind in {"renamed", "added"} and isinstance(holder, dict):
        holder[draw(st.sampled_from(_NAMES))] = holder.pop(key) if kind == "renamed" else draw(_ODD)
    else:
        holder[key] = draw({"drawn": JSON, "token": st.just(_PLACE)}.get(kind, _ODD))


@st.composite
def bent_bodies(draw: st.DrawFn, event: str | None = None) -> bytes:
    """Change a few places of a valid body: gone, of another type or size, under another name, or no JSON at all."""
    tree = orjson.loads(draw(_readable_bodies(event)))
    for _ in range(draw(st.integers(1, 3))):
        if places := _places(tree):
            _bend(draw, places, draw(st.sampled_from(["gone", "odd", "times", "drawn", "token", "renamed", "added"])))
    return orjson.dumps(tree).replace(orjson.dumps(_PLACE), draw(st.sampled_from(ODD_TOKENS)))


@st.composite
def torn_bodies(draw: st.DrawFn) -> bytes:
    """Damage a valid body as bytes: cut short, a hole, foreign bytes, another encoding, twice."""
    body = draw(_readable_bodies())
    at = draw(st.integers(0, len(body)))
    hole, foreign = draw(st.integers(1, 40)), draw(st.binary(min_size=1, max_size=8))
    damaged = [
        body[:at],
        body[:at] + body[at + hole :],
        body[:at] + foreign + body[at:],
        body.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + body,
        body + body,
        b" \r\n\t" * 200 + body,
        body.replace(b"a", rb"\ud83d", 1),
        gzip.compress(body),
    ]
    return draw(st.sampled_from(damaged))


@st.composite
def foreign_bodies(draw: st.DrawFn) -> bytes:
    """Write what is no event of this version: another envelope, another event, the shape of version 1, anything."""
    body = orjson.loads(draw(_readable_bodies()))
    v1 = {"event_type": draw(OBJECTS), "event": draw(OBJECTS), "invitee": draw(OBJECTS)}
    known = draw(st.sampled_from(sorted(KNOWN_EVENTS)))
    unknown = draw(TEXT | st.sampled_from(["invitee.moved", "\0", "x" * 5000]))
    written = [
        body | {"event": unknown},
        body | {"event": known},
        {"event": "invitee.created", "time": draw(TIMES), "payload": v1},
        {"event": known, "payload": draw(JSON)},
        draw(JSON),
    ]
    return draw(st.binary(max_size=200) | st.sampled_from(written).map(orjson.dumps))


@st.composite
def any_bodies(draw: st.DrawFn) -> bytes:
    """Write a valid body, a bent one, a torn one, or what never was one; bent ones go deepest, so they are half."""
    ways = [valid_bodies, valid_bodies, bent_bodies, bent_bodies, bent_bodies, bent_bodies, torn_bodies, foreign_bodies]
    return draw(draw(st.sampled_from(ways))())
