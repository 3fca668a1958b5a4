"""Bodies that cost as much as a body can: for each event type, each field and each way to write many small things.

The search is systematic. The classes of `schemas/` say which fields hold lists, objects and texts; each is filled with
each kind of small item until the body has `MAX_BODY_BYTES` or one part more would be too many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from slotwire.ingest.log.normalize import KNOWN_EVENTS, InviteeEvent
from slotwire.ingest.log.parts import MAX_DEPTH, MAX_PARTS, count_parts
from slotwire.schemas.calendly import InviteePayload, Part
from slotwire.schemas.events import RESOURCE_EVENTS

MAX_BODY_BYTES = 1_048_576
"""What `serve` takes by default."""
URI = "https://api.calendly.com/scheduled_events/E1/invitees/I1"
PLACE = "\x7fhere\x7f"

ITEMS: dict[str, bytes] = {
    "empty object": b"{}",
    "empty list": b"[]",
    "null": b"null",
    "digit": b"1",
    "text of a digit": b'"1"',
    "empty text": b'""',
    "float": b"1e15",
    "largest float": b"1e308",
    "unix time": b'{"created_at":0,"updated_at":0}',
    "unknown field": b'{"a":1}',
    "wrong field": b'{"position":"x","user":1,"email":1,"name":1,"question":1}',
    "list in a field": b'{"answer_choices":[]}',
    "doubled keys": b'{"a":1,"a":2,"a":3}',
    "escape": rb'"\u0001"',
    "half a character": rb'"\ud800"',
    "time": b'"2026-11-23T09:00:00Z"',
    "deep": b"[" * 20 + b"]" * 20,
}
TEXTS: dict[str, bytes] = {
    "letters": b"x",
    "control characters": rb"\u0001",
    "escaped letters": rb"\u0041",
    "three-byte characters": rb"\u20ac",
    "emoji": rb"\ud83d\ude00",
    "halves of characters": rb"\ud800",
    "slashes": rb"\/",
    "quotes": rb"\"",
    "separators": b",",
    "deletes": b"\x7f",
}


@dataclass(frozen=True)
class WorstBody:
    """A body with its name: event, place, and what it is filled with."""

    name: str
    body: bytes


def _model(event: str) -> type[Part]:
    return RESOURCE_EVENTS.get(event, InviteePayload)


def _places(model: type[Part], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the path of each field, those of objects inside included, and one that no version knows."""
    yield (*prefix, "unheard_of")
    for name, inside in model.parts_inside.items():
        yield (*prefix, name)
        if inside is not None and len(prefix) < 2:
            yield from _places(inside, (*prefix, name))


def _written(event: str, path: tuple[str, ...], filling: bytes) -> bytes:
    """Write a body with bytes at a place."""
    payload: dict[str, Any] = {"uri": URI, "no_show": {"uri": URI}, "scheduled_event": {"uri": URI}}
    if event in RESOURCE_EVENTS:
        payload = {"uri": URI}
    holder = payload
    for name in path[:-1]:
        inside = holder.get(name)
        holder[name] = inside if isinstance(inside, dict) else {"uri": URI}
        holder = holder[name]
    holder[path[-1]] = PLACE
    told = orjson.dumps({"event": event, "created_at": "2026-11-23T09:00:00Z", "payload": payload})
    return told.replace(orjson.dumps(PLACE), filling)


def _filled(event: str, path: tuple[str, ...], kind: str, item: bytes, size: int) -> bytes:
    """Fill a place with as many items as the limits of bytes and parts allow."""
    room = size - len(_written(event, path, b""))
    parts = MAX_PARTS - count_parts(_written(event, path, b"")) - 1
    if kind == "text":
        return _written(event, path, b'"' + item * ((room - 2) // len(item)) + b'"')
    if kind == "keys":
        # The names of a field are as short as they can be, or one would replace the other.
        keys = min(parts, (room - 2) // (len(item) + 8))
        return _written(event, path, b"{" + b",".join(b'"%x":%b' % (n, item) for n in range(keys)) + b"}")
    each = 1 + count_parts(item)
    return _written(event, path, b"[" + b",".join([item] * min(parts // each, (room - 2) // (len(item) + 1))) + b"]")


def worst_bodies(*events: str, size: int = MAX_BODY_BYTES) -> Iterator[WorstBody]:
    """Return bodies of at most `size` bytes and `MAX_PARTS` parts, for some events or all."""
    for event in events or sorted(KNOWN_EVENTS):
        for path in _places(_model(event)):
            where = f"{event} {'.'.join(path)}"
            for name, item in ITEMS.items():
                yield WorstBody(f"{where}: list of {name}", _filled(event, path, "list", item, size))
            for name in ("digit", "empty object", "wrong field"):
                yield WorstBody(f"{where}: keys with {name}", _filled(event, path, "keys", ITEMS[name], size))
            for name, item in TEXTS.items():
                yield WorstBody(f"{where}: text of {name}", _filled(event, path, "text", item, size))
            yield WorstBody(f"{where}: deep", _written(event, path, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH))
            yield WorstBody(f"{where}: large number", _written(event, path, b"1" * (size - 1_000)))


def clears_of_many_marks(marks: int, *, padding: int) -> list[bytes]:
    """Return the marks of one booking and a clear after them all: one delivery ends them all, each with its payload."""
    told = [
        {
            "event": InviteeEvent.NO_SHOW_CREATED.value,
            "created_at": "2026-11-23T09:00:00Z",
            "payload": {
                "uri": URI,
                "no_show": {"uri": f"{URI}/{n}", "created_at": f"2026-11-23T08:{n // 60:02}:{n % 60:02}Z"},
            },
        }
        for n in range(marks)
    ]
    clear = {"event": InviteeEvent.NO_SHOW_DELETED.value, "created_at": "2026-11-23T09:00:00Z"}
    return [*map(orjson.dumps, told), orjson.dumps({**clear, "payload": {"uri": URI, "name": "x" * padding}})]
