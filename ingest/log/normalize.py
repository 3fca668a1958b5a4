"""Normalize: from verified bytes to a typed fact in Calendly's words. Pure.

A body that cannot be read becomes a `QuarantineFact`. It is stored raw and answered 2xx, because a 4xx for one new
shape would make Calendly disable the subscription for all events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from traceback import extract_tb
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from slotwire.ingest.errors import CannotNormalize
from slotwire.ingest.receive.verify import Tenant, VerifiedDelivery
from slotwire.schemas.calendly import InviteePayload, Time
from slotwire.schemas.events import RESOURCE_EVENTS, ResourceEvent

MAX_DEPTH = 64
"""Levels of nesting in a body; the deepest documented payload has seven."""
MAX_DETAIL = 300
"""Characters of a quarantine's detail, which names places in the payload, never values."""

M = TypeVar("M", bound=BaseModel)
_TOLD_AT: TypeAdapter[datetime | None] = TypeAdapter(Time | None)
_UNSAFE = re.compile(r"[^A-Za-z0-9_., \[\]-]")


class InviteeEvent(Enum):
    """Calendly's events about an invitee."""

    CREATED = "invitee.created"
    CANCELED = "invitee.canceled"
    NO_SHOW_CREATED = "invitee_no_show.created"
    NO_SHOW_DELETED = "invitee_no_show.deleted"


class FetchedSource(NamedTuple):
    """An answer of the REST API, asked with the organization's own credential. Nobody delivered or signed it.

    Attributes:
        id: of this reading; no row has it.
        tenant: the organization that was asked about.
        received_at: when Calendly answered.
        traceparent: None; no delivery began a trace.
    """

    id: UUID
    tenant: Tenant
    received_at: datetime
    traceparent: None = None


FactSource = VerifiedDelivery | FetchedSource
"""Where a fact comes from: a delivery that was verified, or an answer of the REST API."""


class InviteeFact(NamedTuple):
    """Something happened to an invitee.

    Attributes:
        source: where it comes from.
        told_at: the envelope's time, in whole seconds. It is the only time that a cleared no-show has.
    """

    source: FactSource
    event: InviteeEvent
    payload: InviteePayload
    told_at: datetime


@dataclass(frozen=True, slots=True)
class ResourceFact:
    """Something happened to a resource of which we store no state: the payload is the event."""

    source: VerifiedDelivery
    data: ResourceEvent
    told_at: datetime


@dataclass(frozen=True, slots=True)
class QuarantineFact:
    """An authentic delivery that is stored raw.

    Attributes:
        source: the delivery.
        reason: a short word, which is also the metric's label.
        detail: the place in the payload, without its value.
    """

    source: FactSource
    reason: str
    detail: str = ""


Fact = InviteeFact | ResourceFact | QuarantineFact

_INVITEE_EVENTS = {event.value: event for event in InviteeEvent}
KNOWN_EVENTS = frozenset({*_INVITEE_EVENTS, *RESOURCE_EVENTS})
"""The names of Calendly's events that become events of ours."""


class _Usual(BaseModel):
    """A delivery about an invitee in which every field is known."""

    event: str
    created_at: Time | None = None
    created_by: str | None = None
    payload: InviteePayload


def normalize(delivery: VerifiedDelivery) -> Fact:
    """Read a verified delivery. Never fails: one that it cannot read becomes a `QuarantineFact`."""
    try:
        return _read(delivery)
    except CannotNormalize as problem:
        return QuarantineFact(delivery, problem.reason, problem.detail[:MAX_DETAIL])
    except Exception as problem:  # noqa: BLE001 - a defect of ours must not be answered 5xx for a day
        return defect(delivery, problem)


def defect(source: FactSource, problem: Exception) -> QuarantineFact:
    """Quarantine a delivery on which our own code fails, so that its neighbours and the process go on.

    The detail leaves out the exception's message, which may quote the payload.
    """
    frame = extract_tb(problem.__traceback__)[-1]
    return QuarantineFact(source, "defect", f"{type(problem).__name__} at {Path(frame.filename).name}:{frame.lineno}")


def _read(delivery: VerifiedDelivery) -> Fact:
    limit = delivery.tenant.max_age
    if limit is not None and delivery.received_at - delivery.signed_at > limit:
        raise CannotNormalize("stale")
    if delivery.content_encoding not in {"", "identity"}:
        raise CannotNormalize("compressed")
    usual = _read_usual(delivery.body)
    if usual is not None:
        return _invitee_fact(delivery, _INVITEE_EVENTS[usual.event], usual.payload, usual.created_at)
    name, told_at, payload = _open(_parse(delivery.body))
    event = _INVITEE_EVENTS.get(name)
    if event is not None:
        if "uri" not in payload and isinstance(payload.get("invitee"), dict):
            raise CannotNormalize("v1_shape")
        return _invitee_fact(delivery, event, _validated(InviteePayload, payload), told_at)
    resource = RESOURCE_EVENTS.get(name)
    if resource is not None:
        return ResourceFact(delivery, _validated(resource, payload), told_at or delivery.signed_at)
    raise CannotNormalize("unknown_event", _UNSAFE.sub("?", name[:100]))


def _invitee_fact(
    delivery: VerifiedDelivery, event: InviteeEvent, payload: InviteePayload, told_at: datetime | None
) -> InviteeFact:
    if event is InviteeEvent.NO_SHOW_CREATED and payload.no_show is None:
        raise CannotNormalize("invalid_payload", "no_show")
    return InviteeFact(delivery, event, payload, told_at or delivery.signed_at)


def _read_usual(body: bytes) -> _Usual | None:
    """Read a delivery about an invitee in one pass, as nearly all are; None if anything about it is unusual.

    Raises:
        CannotNormalize: other JSON readers would refuse it, or it is nested too deep.
    """
    try:
        usual = _Usual.model_validate_json(body, extra="forbid")
    except ValidationError:
        return None
    if usual.event not in _INVITEE_EVENTS:
        return None
    # Two fields are free-form: a location's data and "extra" (which may be spelt with \u escapes). They may hold deep
    # nesting, or NaN, which pydantic accepts and other JSON readers reject: parse such a body again, strictly.
    meeting = usual.payload.scheduled_event
    if (meeting and meeting.location and meeting.location.data) or b'"extra"' in body or _escapes(body):
        _parse(body)
    return usual


def _escapes(body: bytes) -> bool:
    """Whether any character is written as its number. Most bodies have no backslash at all, which is quick to see."""
    return b"\\" in body and b"\\u" in body


def _brackets(body: bytes) -> int:
    """Count opening brackets: a body with at most `MAX_DEPTH` of them is not too deep, so real ones are not walked."""
    return body.count(b"{") + body.count(b"[")


def _parse(body: bytes) -> object:
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            body.decode()
        except UnicodeDecodeError:
            raise CannotNormalize("invalid_utf8") from None
        raise CannotNormalize("not_json") from None
    if _brackets(body) > MAX_DEPTH and _depth_exceeds(parsed, MAX_DEPTH):
        raise CannotNormalize("too_deep")
    return parsed


def _depth_exceeds(value: object, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        deeper: list[object] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
        if not deeper:
            return False
        level = deeper
    return any(isinstance(item, dict | list) for item in level)


def _open(parsed: object) -> tuple[str, datetime | None, dict[str, Any]]:
    """Take the envelope apart: the event's name, its time and the payload.

    Raises:
        CannotNormalize: `not_an_envelope`, with the field that is wrong.
    """
    if not isinstance(parsed, dict):
        raise CannotNormalize("not_an_envelope", "body")
    name, payload = parsed.get("event"), parsed.get("payload")
    if not isinstance(name, str):
        raise CannotNormalize("not_an_envelope", "event")
    if not isinstance(payload, dict):
        raise CannotNormalize("not_an_envelope", "payload")
    told_at = parsed.get("created_at")
    try:
        return name, _TOLD_AT.validate_python(told_at), payload
    except ValidationError:
        raise CannotNormalize("not_an_envelope", "created_at") from None


def _validated(model: type[M], payload: dict[str, Any]) -> M:
    try:
        return model.model_validate(payload)
    except ValidationError as problem:
        places = sorted({".".join(str(part) for part in issue["loc"]) for issue in problem.errors()})
        raise CannotNormalize("invalid_payload", _UNSAFE.sub("?", ", ".join(places))) from None
