"""CloudEvents 1.0 over the Kafka protocol binding, binary content mode.

Attributes travel as headers with the prefix `ce_`, the data as the record's value. Source: the CloudEvents
specification, "Kafka Protocol Binding for CloudEvents", section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from .envelope import Event
from .events import BY_TYPE, EventData

CONTENT_TYPE = b"application/json"
DATASCHEMA = "urn:slotwire:schema:"
"""Followed by a type, the name of the JSON Schema of its data."""
INFERRED = "slotwire-inferred"
ORIGIN = "slotwire-origin"
"""How the delivery came in that the event is made of: `webhook`, `backfill`, `reconcile`, `retry` or `own`."""
REPLAY = "slotwire-replay"

MAX_NAME = 100
"""Characters of an unknown type that an error names."""
_REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_time")
_ATTRIBUTES = frozenset(
    {*_REQUIRED, "ce_subject", "ce_partitionkey", "ce_sequence", "ce_recordedtime", "ce_tenant", "ce_dataref"}
)
_BESIDE = frozenset({"traceparent", INFERRED, ORIGIN, REPLAY})
_SEQUENCE = re.compile("[0-9]{1,18}")

Headers = list[tuple[str, bytes]]


class UndecodableRecord(ValueError):
    """A record is not an event in a type and form that this version knows.

    Attributes:
        reason: `not_an_event`, `unknown_type`, `data_elsewhere` or `invalid_data`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Attributes:
    """An event's context, without its data.

    Attributes:
        organization: the last segment of the organization's URI.
        sequence: the position in the log.
        origin: how its delivery came in.
        recorded_time: when its delivery arrived; the CloudEvents extension `recordedtime`.
        dataref: the reference to data that is too large for a record.
    """

    id: UUID
    type: str
    organization: str
    subject: str
    time: datetime
    key: str
    sequence: int
    recorded_time: datetime | None = None
    traceparent: str | None = None
    inferred: bool = False
    origin: str | None = None
    replay: str | None = None
    tenant: str | None = None
    dataref: str | None = None


def format_time(time: datetime) -> str:
    """Write a time as RFC 3339 in UTC."""
    # Most times are in UTC already, and converting them costs more than formatting them.
    utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    return utc.isoformat().replace("+00:00", "Z")


def encode_headers(event: Attributes) -> Headers:
    """Write an event's context as a record's headers."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(event.id).encode()),
        ("ce_source", f"/organizations/{event.organization}".encode()),
        ("ce_type", event.type.encode()),
        ("ce_subject", event.subject.encode()),
        ("ce_time", format_time(event.time).encode()),
        ("ce_dataschema", f"{DATASCHEMA}{event.type}".encode()),
        ("ce_partitionkey", event.key.encode()),
        ("ce_sequence", str(event.sequence).encode()),
        ("content-type", CONTENT_TYPE),
    ]
    optional = (
        ("ce_recordedtime", format_time(event.recorded_time) if event.recorded_time else None),
        ("traceparent", event.traceparent),
        (INFERRED, "true" if event.inferred else None),
        (ORIGIN, event.origin),
        (REPLAY, event.replay),
        ("ce_tenant", event.tenant),
        ("ce_dataref", event.dataref),
    )
    headers.extend((name, value.encode()) for name, value in optional if value is not None)
    return headers


def encode_data(data: EventData) -> bytes:
    """Write an event's data as JSON."""
    return data.__pydantic_serializer__.to_json(data)


def decode(
    headers: Iterable[tuple[str, bytes | None]],
    value: bytes | None,
    *,
    elsewhere: bytes | None = None,
    known_as: type[EventData] | None = None,
) -> Event[EventData]:
    """Read a record. Whatever it holds, it is an event or an `UndecodableRecord`.

    Args:
        headers: the record's headers.
        value: the record's value; empty when the data is elsewhere.
        elsewhere: the data that `ce_dataref` refers to, once fetched.
        known_as: the class of data that is never published, whatever type the record says.

    Raises:
        UndecodableRecord: with reason `not_an_event`, `unknown_type`, `data_elsewhere` or `invalid_data`.
    """
    found = _attributes(headers)
    kind = found["ce_type"]
    context = _context(found)
    cls = known_as or BY_TYPE.get(kind)
    if cls is None:
        raise UndecodableRecord("unknown_type", f"this version does not know the type {kind[:MAX_NAME]}")
    dataref = found.get("ce_dataref")
    body = elsewhere if dataref is not None else value
    if body is None:
        raise UndecodableRecord("data_elsewhere", "the record was published without its data")
    return Event(
        **context,
        data=_data(cls, body),
        dataref=dataref,
        traceparent=found.get("traceparent"),
        inferred=found.get(INFERRED) == "true",
        origin=found.get(ORIGIN),
        replay=found.get(REPLAY),
        tenant=found.get("ce_tenant"),
    )


def _attributes(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Read the headers that an event has; others are anybody's, and are left out.

    Tracing libraries add a `traceparent` of their own behind ours, so of a header that says nothing about the event the
    first one counts.

    Raises:
        UndecodableRecord: `not_an_event`: an attribute is missing, occurs twice, or is not text.
    """
    found: dict[str, str] = {}
    for name, item in headers:
        if item is None:
            continue
        if name in _BESIDE:
            found.setdefault(name, item.decode(errors="replace"))
        elif name in _ATTRIBUTES:
            if name in found:
                raise UndecodableRecord("not_an_event", f"the header {name} occurs twice")
            try:
                found[name] = item.decode()
            except UnicodeDecodeError:
                raise UndecodableRecord("not_an_event", f"the header {name} is not UTF-8") from None
    for name in _REQUIRED:
        if name not in found:
            raise UndecodableRecord("not_an_event", f"the header {name} is missing")
    return found


def _context(found: Mapping[str, str]) -> dict[str, Any]:
    """Read what says which event it is, when it happened and where it stands.

    Raises:
        UndecodableRecord: `not_an_event`, with the header that cannot be read.
    """
    readers: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
        ("id", "ce_id", UUID),
        ("time", "ce_time", _time),
        ("recorded_time", "ce_recordedtime", _time),
        ("sequence", "ce_sequence", _sequence),
    )
    context: dict[str, Any] = {
        "type": found["ce_type"],
        "source": found["ce_source"],
        "subject": found.get("ce_subject", ""),
        "key": found.get("ce_partitionkey", ""),
        "sequence": 0,
    }
    for field, name, read in readers:
        if name in found:
            try:
                context[field] = read(found[name])
            except ValueError:
                raise UndecodableRecord("not_an_event", f"the header {name} cannot be read") from None
    return context


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no offset")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


def _sequence(text: str) -> int:
    if _SEQUENCE.fullmatch(text) is None:
        raise ValueError("no position")
    return int(text)


def _data(cls: type[EventData], body: bytes) -> EventData:
    """Read an event's data.

    Raises:
        UndecodableRecord: `invalid_data`, with up to three places where it does not fit.
    """
    try:
        return cls.model_validate_json(body)
    except ValidationError as error:
        issues = error.errors(include_url=False, include_context=False, include_input=False)[:3]
        places = ", ".join(".".join(map(str, issue["loc"])) or issue["type"] for issue in issues)
    except (ValueError, RecursionError):  # a number of thousands of digits, for example
        places = "the whole of it"
    raise UndecodableRecord("invalid_data", f"the data of {cls.type} does not fit at: {places}")
