"""CloudEvents 1.0 over the Kafka protocol binding, binary content mode.

Attributes travel as headers with the prefix `ce_`, the data as the record's value. Source: the CloudEvents
specification, "Kafka Protocol Binding for CloudEvents", section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
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
    headers: Iterable[tuple[str, bytes | None]], value: bytes | None, *, elsewhere: bytes | None = None
) -> Event[EventData]:
    """Read a record.

    Args:
        headers: the record's headers.
        value: the record's value; empty when the data is elsewhere.
        elsewhere: the data that `ce_dataref` refers to, once fetched.

    Raises:
        UndecodableRecord: with reason `not_an_event`, `unknown_type`, `data_elsewhere` or `invalid_data`.
    """
    found = {name: item.decode() for name, item in headers if item is not None}
    try:
        kind = found["ce_type"]
        context = {
            "id": UUID(found["ce_id"]),
            "type": kind,
            "source": found["ce_source"],
            "subject": found.get("ce_subject", ""),
            "time": datetime.fromisoformat(found["ce_time"]),
            "key": found.get("ce_partitionkey", ""),
            "sequence": int(found.get("ce_sequence", "0")),
            "recorded_time": datetime.fromisoformat(found["ce_recordedtime"]) if "ce_recordedtime" in found else None,
        }
    except (KeyError, ValueError) as error:
        raise UndecodableRecord("not_an_event", "the record's headers are not those of a Slotwire event") from error
    cls = BY_TYPE.get(kind)
    if cls is None:
        raise UndecodableRecord("unknown_type", f"this version does not know the type {kind}")
    dataref = found.get("ce_dataref")
    body = elsewhere if dataref is not None else value
    if body is None:
        raise UndecodableRecord("data_elsewhere", "the record was published without its data")
    try:
        data = cls.model_validate_json(body)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, issue["loc"])) for issue in error.errors()[:3])
        raise UndecodableRecord("invalid_data", f"the data of {kind} does not fit at: {places}") from None
    return Event(
        **context,  # type: ignore[arg-type]  # typed above, field by field
        data=data,
        dataref=dataref,
        traceparent=found.get("traceparent"),
        inferred=found.get(INFERRED) == "true",
        origin=found.get(ORIGIN),
        replay=found.get(REPLAY),
        tenant=found.get("ce_tenant"),
    )
