"""Normalize: from the bytes that were accepted to typed facts in Calendly's words. Pure.

A webhook reports one fact. What was fetched by REST reports up to four about an invitee: booked, canceled, a mark
cleared, marked as a no-show. A body that cannot be read becomes a `QuarantineFact`: it was answered 2xx when it came,
because a 4xx for one new shape would make Calendly disable the subscription for all events. A later version can read it
again. One field that is not as documented does not cost the event, unless identity, order or state depend on it
(`drift`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from traceback import extract_tb
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from slotwire.ingest.errors import CannotNormalize, SchemaMismatch
from slotwire.ingest.log.delivery import Delivery, Origin
from slotwire.ingest.log.drift import BOOKING, MARK, RESOURCE, WHOLE, Repairs, read_drifted
from slotwire.ingest.log.move import INTENDED, MoveFact, read_move
from slotwire.ingest.log.parts import MAX_PARTS, count_parts
from slotwire.ingest.log.reading import read_json
from slotwire.schemas.calendly import InviteePayload, Part, Time
from slotwire.schemas.codec import format_time
from slotwire.schemas.events import BY_TYPE, RESOURCE_EVENTS, EventData, ResourceEvent
from slotwire.schemas.ids import EventId, content_digest

MAX_DETAIL = 300
"""Characters of a quarantine's detail, which names places in the payload, never values."""
P = TypeVar("P", bound=Part)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ENVELOPE_TIME = "envelope.created_at"
"""How the envelope's time is called among the fields that drift."""
_TOLD_AT: TypeAdapter[datetime | None] = TypeAdapter(Time | None)
_LONG_NUMBER = re.compile(rb"[:,\[]\s*-?[0-9]{19,}")
"""What may be a whole number that pydantic has exactly, and other readers as a double."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_., \[\]-]")


class InviteeEvent(Enum):
    """Calendly's events about an invitee."""

    CREATED = "invitee.created"
    CANCELED = "invitee.canceled"
    NO_SHOW_CREATED = "invitee_no_show.created"
    NO_SHOW_DELETED = "invitee_no_show.deleted"


class InviteeFact(NamedTuple):
    """Something happened to an invitee.

    Attributes:
        told_at: the envelope's time, in whole seconds. It is the only time that a cleared no-show has.
        drifted: the fields that could not be read, which are under `extra`.
        cleared: of a clear that is inferred: the marks that were known before REST was asked, and that it did not show.
        replaces: the invitee that this one replaces, part_of_action: what canceled it; both by an action (`replacing`).
    """

    delivery: Delivery
    event: InviteeEvent
    payload: InviteePayload
    told_at: datetime
    drifted: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    replaces: str | None = None
    part_of_action: UUID | None = None


@dataclass(frozen=True, slots=True)
class ResourceFact:
    """Something happened to a resource of which we store no state: the payload is the event.

    Attributes:
        discriminator: distinguishes events of the same name and resource; empty if there is only one.
        drifted: the fields that could not be read, which are under `extra`.
        inferred: Calendly did not tell of it; REST does not show the resource any more.
    """

    delivery: Delivery
    data: ResourceEvent
    told_at: datetime
    discriminator: str = ""
    drifted: tuple[str, ...] = ()
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class QuarantineFact:
    """An authentic delivery that is stored raw.

    Attributes:
        reason: a short word, which is also the metric's label.
        detail: the place in the payload, without its value.
    """

    delivery: Delivery
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class OwnFact:
    """Something we say of ourselves: the event is written already, and is appended as it is."""

    delivery: Delivery
    id: EventId
    data: EventData
    subject: str
    key: str
    time: datetime


Fact = InviteeFact | ResourceFact | OwnFact | MoveFact | QuarantineFact

_INVITEE_EVENTS = {event.value: event for event in InviteeEvent}
KNOWN_EVENTS = frozenset({*_INVITEE_EVENTS, *RESOURCE_EVENTS})
"""The names of Calendly's events that become events of ours."""


class _Usual(BaseModel):
    """A delivery about an invitee in which every field is known."""

    event: str
    created_at: Time | None = None
    created_by: str | None = None
    payload: InviteePayload


def normalize(delivery: Delivery) -> Sequence[Fact]:
    """Read an accepted delivery. One that cannot be read becomes a `QuarantineFact`.

    Returns:
        The facts it reports, in their order; at least one.

    Raises:
        SchemaMismatch: it is an event of ours of a type that a newer version knows. Nothing is lost while we wait
            for that version, so the delivery is not quarantined.
    """
    try:
        match delivery.form:
            case Origin.OWN:
                return (_own_fact(delivery),)
            case Origin.BACKFILL | Origin.RECONCILE:
                return _fetched_facts(delivery)
            case _:
                return (_read(delivery),)
    except CannotNormalize as problem:
        return (QuarantineFact(delivery, problem.reason, problem.detail[:MAX_DETAIL]),)
    except SchemaMismatch:
        raise
    except Exception as problem:  # noqa: BLE001 - a defect of ours costs this delivery, and no other
        return (defect(delivery, problem),)


def defect(delivery: Delivery, problem: Exception) -> QuarantineFact:
    """Quarantine a delivery on which our own code fails, so that its neighbours and the process go on.

    The detail leaves out the exception's message, which may quote the payload.
    """
    frame = extract_tb(problem.__traceback__)[-1]
    return QuarantineFact(delivery, "defect", f"{type(problem).__name__} at {Path(frame.filename).name}:{frame.lineno}")


def _read(delivery: Delivery) -> Fact:
    if delivery.stale:
        raise CannotNormalize("stale")
    if delivery.content_encoding not in {"", "identity"}:
        raise CannotNormalize("compressed")
    _require_few_parts(delivery.body)
    # RFC 8259, section 8.1, lets a reader ignore a byte order mark.
    body = delivery.body.removeprefix(_BYTE_ORDER_MARK)
    usual = _read_usual(body)
    if usual is not None:
        return _invitee_fact(delivery, _INVITEE_EVENTS[usual.event], usual.payload, usual.created_at)
    parsed, repairs = read_json(body)
    name, payload = _open(parsed)
    told_at, unread = _told_at(parsed)
    event = _INVITEE_EVENTS.get(name)
    if event is not None:
        if "uri" not in payload and isinstance(payload.get("invitee"), dict):
            raise CannotNormalize("v1_shape")
        essential = BOOKING | MARK if event is InviteeEvent.NO_SHOW_CREATED else BOOKING
        invitee, drifted = _validated(InviteePayload, payload, essential, repairs)
        return _invitee_fact(delivery, event, invitee, told_at, (*unread, *drifted))
    resource = RESOURCE_EVENTS.get(name)
    if resource is not None:
        fact = _resource_fact(delivery, resource, payload, told_at, repairs)
        return replace(fact, drifted=(*unread, *fact.drifted)) if unread else fact
    raise CannotNormalize("unknown_event", _UNSAFE.sub("?", name[:100]))


def _resource_fact(
    delivery: Delivery,
    kind: type[ResourceEvent],
    payload: dict[str, Any],
    told_at: datetime | None,
    repairs: Repairs,
) -> ResourceFact:
    data, drifted = _validated(kind, payload, RESOURCE, repairs)
    _require_text(delivery, uri=data.uri)
    discriminator = ""
    if data.repeats:
        # `updated_at` need not move with every update: a share link of a recap is one that may not move it.
        updated_at = getattr(data, "updated_at", None)
        said = {name: item for name, item in payload.items() if name not in kind.beside}
        discriminator = f"{format_time(updated_at) if updated_at else ''}\n{content_digest(said)}"
    return ResourceFact(delivery, data, told_at or delivery.signed_at, discriminator, drifted)


def _fetched_facts(delivery: Delivery) -> Sequence[Fact]:
    """Read what REST told, as `receive/accept.py` writes it: of an invitee both documents, of a resource its own.

    REST and webhooks describe things alike, so the facts are those a webhook would have told, with its event ids. Of an
    invitee the marks that were known before go with it: those that REST does not show any more are cleared.
    """
    _require_few_parts(delivery.body)
    told, repairs = read_json(delivery.body)
    if isinstance(told, dict) and told.get("event") in RESOURCE_EVENTS and isinstance(told.get("payload"), dict):
        kind = RESOURCE_EVENTS[told["event"]]
        fact = _resource_fact(delivery, kind, told["payload"], delivery.received_at, repairs)
        return (replace(fact, inferred=told.get("inferred") is True),)
    if not isinstance(told, dict) or not all(
        isinstance(told.get(name), dict) for name in ("invitee", "scheduled_event")
    ):
        raise CannotNormalize("not_fetched", "invitee, scheduled_event")
    document = {**told["invitee"], "scheduled_event": told["scheduled_event"]}
    payload, drifted = _validated(InviteePayload, document, BOOKING | MARK, repairs)
    shown = payload.no_show.uri if payload.no_show else None
    _require_text(delivery, **_identifiers(payload), no_show=shown)
    cleared = tuple(mark for mark in told.get("marks", ()) if mark != shown)
    names = [InviteeEvent.CREATED]
    if payload.status == "canceled":
        names.append(InviteeEvent.CANCELED)
    if cleared:
        names.append(InviteeEvent.NO_SHOW_DELETED)
    if shown is not None:
        names.append(InviteeEvent.NO_SHOW_CREATED)
    told_at = delivery.received_at
    return [
        InviteeFact(
            *(delivery, name, payload, told_at, drifted), cleared if name is InviteeEvent.NO_SHOW_DELETED else ()
        )
        for name in names
    ]


def _own_fact(delivery: Delivery) -> OwnFact | MoveFact:
    """Read an event of ours, as `receive/accept.py` writes it."""
    told = orjson.loads(delivery.body)
    if told["type"] == INTENDED:
        return read_move(delivery, told)
    kind = BY_TYPE.get(told["type"])
    if kind is None:
        raise SchemaMismatch(
            f"an event of type {told['type']} waits, which this version does not know",
            remedy="Run a relay that is at least as new as the other processes.",
        )
    data = kind.model_validate(told["data"])
    time = datetime.fromisoformat(told["time"])
    return OwnFact(delivery, EventId(UUID(told["id"])), data, told["subject"], told["key"], time)


def _invitee_fact(
    delivery: Delivery,
    event: InviteeEvent,
    payload: InviteePayload,
    told_at: datetime | None,
    drifted: tuple[str, ...] = (),
) -> InviteeFact:
    mark = payload.no_show if event is InviteeEvent.NO_SHOW_CREATED else None
    if event is InviteeEvent.NO_SHOW_CREATED and mark is None:
        raise CannotNormalize("invalid_payload", "no_show")
    if ENVELOPE_TIME in drifted and (
        event is InviteeEvent.NO_SHOW_DELETED or (mark is not None and mark.created_at is None)
    ):
        raise CannotNormalize("unknown_time", "created_at")
    _require_text(delivery, **_identifiers(payload), no_show=None if mark is None else mark.uri)
    return InviteeFact(delivery, event, payload, told_at or delivery.signed_at, drifted)


def _identifiers(payload: InviteePayload) -> dict[str, str | None]:
    return {"uri": payload.uri, "old_invitee": payload.old_invitee, "new_invitee": payload.new_invitee}


def _require_text(delivery: Delivery, **identifiers: str | None) -> None:
    """Refuse identifiers with a null character: no text of Postgres has one, and no address does.

    Raises:
        CannotNormalize: `null_character`, with their names.
    """
    if b"\\u0000" not in delivery.body:  # JSON writes the character in this way only
        return
    if names := [name for name, value in identifiers.items() if value is not None and "\0" in value]:
        raise CannotNormalize("null_character", ", ".join(names))


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
    # nesting, NaN, which pydantic accepts and other JSON readers reject, or numbers beyond all readers: parse such a
    # body again, strictly.
    meeting = usual.payload.scheduled_event
    if (meeting and meeting.location and meeting.location.data) or b'"extra"' in body or _escapes(body):
        _, repairs = read_json(body)
        return None if any(repairs) or _LONG_NUMBER.search(body) else usual
    return usual


def _require_few_parts(body: bytes) -> None:
    """Refuse a body with too many values before anything is made of them."""
    if count_parts(body) > MAX_PARTS:
        raise CannotNormalize("too_many_parts")


def _escapes(body: bytes) -> bool:
    """Whether any character is written as its number. Most bodies have no backslash at all, which is quick to see."""
    return b"\\" in body and b"\\u" in body


def _open(parsed: object) -> tuple[str, dict[str, Any]]:
    """Take the envelope apart: the event's name and the payload.

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
    return name, payload


def _told_at(parsed: object) -> tuple[datetime | None, tuple[str, ...]]:
    """Read the envelope's time; one that cannot be read is none, and named as a field that drifted."""
    try:
        return _TOLD_AT.validate_python(parsed.get("created_at") if isinstance(parsed, dict) else None), ()
    except ValidationError:
        return None, (ENVELOPE_TIME,)


def _validated(
    model: type[P], payload: dict[str, Any], essential: frozenset[str], repairs: Repairs
) -> tuple[P, tuple[str, ...]]:
    """Read a payload; what cannot be read and is not essential goes under `extra`.

    Args:
        model: its class.
        payload: as it came.
        essential: the fields without which it is quarantined.
        repairs: what had to be replaced in it to read it at all.

    Returns:
        The payload, and the fields that are not as documented.

    Raises:
        CannotNormalize: `invalid_payload`, or `invalid_utf8` for half a character, with the essential fields.
    """
    if repairs == WHOLE:
        try:
            return model.model_validate(payload), ()
        except ValidationError:
            pass
    return read_drifted(model, payload, essential, repairs)
