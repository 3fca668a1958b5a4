"""Every field of what Calendly sends, replaced by every other JSON type: an event that fits its schema, or quarantine.

Quarantine only where the list says so (`ingest/log/drift.py`), and never as a defect of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import orjson
import pytest
from jsonschema import Draft202012Validator
from pydantic import AwareDatetime

from slotwire.ingest.log import normalize as stage
from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.drift import BOOKING, MARK, RESOURCE
from slotwire.ingest.log.normalize import QuarantineFact, normalize
from slotwire.schemas.calendly import InviteePayload, Part
from slotwire.schemas.codec import encode_data
from slotwire.schemas.events import BY_TYPE, RESOURCE_EVENTS
from tests.support.writing import accepted
from tools.generate.json_schemas import json_schemas

TIME = "2026-11-23T09:00:00.100000Z"
VALIDATORS = {kind: Draft202012Validator(schema) for kind, schema in json_schemas().items()}
OTHERS: list[Any] = [None, True, 7, 1.5, "", "text", [], ["x"], [{}], {}, {"a": 1}]
_SIMPLE: dict[Any, Any] = {str: "text", bool: True, int: 30, float: 12.5, AwareDatetime: TIME}
PAYLOADS: dict[str, type[Part]] = {
    "invitee.created": InviteePayload,
    "invitee_no_show.created": InviteePayload,
    **RESOURCE_EVENTS,
}
Place = tuple[str | int, ...]


def filled(annotation: Any) -> Any:
    """Make a value that an annotation of our classes accepts, with every field there is."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return filled(inner[0])
    if origin in {Union, UnionType}:
        return filled(next(each for each in inner if each is not NoneType))
    if origin is list:
        return [filled(inner[0])]
    if origin is dict:
        return {"x": 1}
    if isinstance(annotation, type) and issubclass(annotation, Part):
        fields = annotation.model_fields.items()
        return {field.alias or name: filled(field.annotation) for name, field in fields if name != "extra"}
    return _SIMPLE[annotation]


def places(cls: type[Part], holder: dict[str, Any], before: Place = ()) -> Iterator[Place]:
    """Return the place of every field of a payload, by names and positions."""
    for name, value in holder.items():
        place = (*before, name)
        yield place
        part = cls.parts_inside[name]
        if part is not None:
            inner, within = (value[0], (*place, 0)) if isinstance(value, list) else (value, place)
            yield from places(part, inner, within)


def at(value: Any, place: Place) -> Any:
    """Return what is at a place."""
    for step in place:
        value = value[step]
    return value


def path_of(place: Place) -> str:
    """Write a place as drift names it."""
    return ".".join(each for each in place if isinstance(each, str))


def essential(event: str) -> frozenset[str]:
    """Return the fields on which something depends."""
    if event in RESOURCE_EVENTS:
        return RESOURCE
    return BOOKING | MARK if event == "invitee_no_show.created" else BOOKING


def check(event: str, payload: dict[str, Any], place: Place, other: Any) -> bool:
    """Replace one field; return whether it quarantined the delivery."""
    told: dict[str, Any] = orjson.loads(orjson.dumps(payload))
    at(told, place[:-1])[place[-1]] = other
    delivery = accepted(orjson.dumps({"event": event, "created_at": TIME, "payload": told}))
    [fact] = normalize(delivery)
    path = path_of(place)
    if isinstance(fact, QuarantineFact):
        assert fact.reason == "invalid_payload"
        assert path in essential(event), (path, other)
        return True
    batch = Batch([fact])
    assert [each.outcome for each in batch.results] == ["stored"]
    [drifted] = [each.drifted for each in batch.results]
    for row in batch.events:
        data = orjson.loads(encode_data(row.data))
        assert VALIDATORS[row.data.type].is_valid(data)
        assert encode_data(BY_TYPE[row.data.type].model_validate_json(encode_data(row.data))) == encode_data(row.data)
        if not drifted:
            assert at(data, place) is not None or other is None
            continue
        if drifted == ("scheduled_event.uri",):  # missing or empty: taken from `event`, the same
            assert data["scheduled_event"]["uri"] == payload["event"]
            assert other in ({}, {"a": 1}, None, "")
            continue
        [field] = drifted
        moved = next(place[:end] for end in range(1, len(place) + 1) if path_of(place[:end]) == field)
        holder = at(data, moved[:-1])
        assert holder["extra"] == {moved[-1]: at(told, moved)}
        assert not holder[moved[-1]]
    return False


@pytest.mark.parametrize("event", PAYLOADS)
def test_any_field_of_another_type_costs_no_event_that_does_not_depend_on_it(event: str) -> None:
    """Each field, each other type. What drifted is whole under `extra` of its object, and its own place is empty."""
    cls = PAYLOADS[event]
    payload = filled(cls)
    refused = {
        path_of(place) for place in places(cls, payload) for other in OTHERS if check(event, payload, place, other)
    }
    there = {path_of(place) for place in places(cls, payload)}
    assert refused == essential(event) & there
    assert refused


@pytest.mark.parametrize("event", ["invitee.created", "invitee_no_show.created"])
def test_the_short_way_takes_nothing_that_drifts(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, read by the careful way alone: each payload becomes the same fact."""
    payload = filled(InviteePayload)
    told = []
    for place in places(InviteePayload, payload):
        for other in OTHERS:
            bent: dict[str, Any] = orjson.loads(orjson.dumps(payload))
            at(bent, place[:-1])[place[-1]] = other
            told.append(accepted(orjson.dumps({"event": event, "created_at": TIME, "payload": bent})))
    quickly = [normalize(each) for each in told]
    monkeypatch.setattr(stage, "_read_usual", lambda _: None)
    assert [normalize(each) for each in told] == quickly
