"""The JSON Schemas: each says what is written of its type, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from slotwire.schemas.codec import DATASCHEMA, encode_data
from slotwire.schemas.events import BY_TYPE, EVENT_CLASSES, EventData
from tests.support.fuzzing import objects
from tools.expected import expected_file, scenarios
from tools.generate.asyncapi import examples
from tools.generate.json_schemas import (
    DIALECT,
    FOLDER,
    PAGE_PATH,
    SENSITIVE,
    Schema,
    json_schemas,
    shared_objects,
    words,
)
from tools.sources import ROOT

SCHEMAS = json_schemas()
FORMATS = FormatChecker(formats=())


def is_time(value: object) -> bool:
    """Hold times to RFC 3339: a date, a time and an offset."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


FORMATS.checkers["date-time"] = (is_time, ValueError)


@cache
def validator(kind: str) -> Draft202012Validator:
    """Return a validator that holds formats too."""
    return Draft202012Validator(SCHEMAS[kind], format_checker=FORMATS)


def written_events() -> Iterator[Any]:
    """Yield every event that a payload scenario becomes, as test cases."""
    for scenario in scenarios():
        name = f"{scenario.parent.name}/{scenario.stem}"
        for number, event in enumerate(orjson.loads(expected_file(scenario).read_bytes()).get("events", ())):
            yield pytest.param(event["type"], event["data"], id=f"{name}-{number}")
    for kind, example in examples().items():
        yield pytest.param(kind, example.value, id=f"example-{kind}")


@pytest.mark.parametrize("kind", SCHEMAS)
def test_it_is_a_schema_of_its_dialect(kind: str) -> None:
    """The schema keeps the rules of draft 2020-12, and its id is what the header `ce_dataschema` says."""
    Draft202012Validator.check_schema(SCHEMAS[kind])
    assert SCHEMAS[kind]["$schema"] == DIALECT
    assert SCHEMAS[kind]["$id"] == f"{DATASCHEMA}{kind}"
    assert SCHEMAS[kind]["title"] == BY_TYPE[kind].__name__


def test_no_file_is_left_of_a_type_that_is_gone() -> None:
    """The folder holds the schemas of the published types and no other."""
    assert {path.stem for path in (ROOT / FOLDER).glob("*.json")} == set(BY_TYPE)
    assert {path.stem for path in (ROOT / "schemas/examples").glob("*.json")} == set(BY_TYPE)


@pytest.mark.parametrize(("kind", "data"), list(written_events()))
def test_what_scenarios_become_is_valid(kind: str, data: Schema) -> None:
    """Each event that stands beside a payload fits its schema, and the schema knows each of its fields."""
    assert [error.message for error in validator(kind).iter_errors(data)] == []
    assert unknown_fields(data, SCHEMAS[kind], SCHEMAS[kind]) == []


@pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.type)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(drawn=st.data())
def test_whatever_a_class_holds_is_valid(cls: type[EventData], drawn: st.DataObject) -> None:
    """Any values the class accepts are written as its schema says, null, empty and foreign fields included."""
    data = orjson.loads(encode_data(cls.model_validate(drawn.draw(objects(cls)))))
    assert [error.message for error in validator(cls.type).iter_errors(data)] == []
    assert unknown_fields(data, SCHEMAS[cls.type], SCHEMAS[cls.type]) == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_what_does_not_fit_is_refused(kind: str) -> None:
    """The schema bites: without its subject, with one that is no text, or a time that is none, data is invalid."""
    good = examples()[kind].value
    about = next(name for name in ("uri", "user", "subscription_id") if name in good)
    assert not validator(kind).is_valid({name: value for name, value in good.items() if name != about})
    assert not validator(kind).is_valid({**good, about: 7})
    times = [name for name, field in SCHEMAS[kind]["properties"].items() if words(field).startswith("time")]
    assert times
    for name in times:
        assert not validator(kind).is_valid({**good, name: "yesterday"}), name
    if "booking" in good:
        assert not validator(kind).is_valid({**good, "booking": {**good["booking"], "state": "postponed"}})


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_field_of_a_later_release_is_no_error(kind: str) -> None:
    """Every object of the schema is open: an added field anywhere is valid for consumers that hold this release."""
    later = deepcopy(examples()[kind].value)
    add_everywhere(later, "added_later")
    assert later["added_later"]
    assert validator(kind).is_valid(later)


def test_what_is_sensitive_is_marked() -> None:
    """Capability URLs and what may hold passwords carry `x-sensitive`, nothing else does, and the list is not stale."""
    objects_by_name = {**shared_objects(SCHEMAS.values()), **{schema["title"]: schema for schema in SCHEMAS.values()}}
    fields = {(name, field) for name, schema in objects_by_name.items() for field in schema["properties"]}
    marked = {(name, field) for name, field in fields if objects_by_name[name]["properties"][field].get("x-sensitive")}
    assert marked == SENSITIVE & fields
    assert {field for _, field in marked} == {"cancel_url", "reschedule_url", "join_url", "data"}
    assert {"InviteeCreated", "InviteeCanceled", "Location"} <= {name for name, _ in marked}


def test_the_page_tells_every_field() -> None:
    """Each type and each object has its section on the page, and each field of it a row there or where it points."""
    page = (ROOT / PAGE_PATH).read_text(encoding="utf-8")
    sections = {title.strip("` "): text for title, _, text in (part.partition("\n") for part in page.split("\n## "))}
    objects_told = {title: text for title, _, text in (part.partition("\n") for part in page.split("\n### "))}
    for kind, schema in SCHEMAS.items():
        told = sections[kind] + "".join(text for other, text in sections.items() if f"of [`{other}`]" in sections[kind])
        assert not [name for name in schema["properties"] if name != "extra" and f"| `{name}` |" not in told], kind
    for name, schema in shared_objects(SCHEMAS.values()).items():
        assert not [each for each in schema["properties"] if each != "extra" and f"`{each}`" not in objects_told[name]]


def test_every_field_says_what_it_means() -> None:
    """Each type, each object and each field of theirs has a sentence: the docstring in `schemas`."""
    for name, schema in {**SCHEMAS, **shared_objects(SCHEMAS.values())}.items():
        assert schema["description"].endswith("."), name
        silent = [
            field for field, form in schema["properties"].items() if not form.get("description", "").endswith(".")
        ]
        assert not silent, name


def test_one_name_means_one_object() -> None:
    """Two types that mean different things by one name cannot be told on one page: that is an error, not a guess."""
    first, second = deepcopy(SCHEMAS["com.calendly.invitee.created.v1"]), SCHEMAS["com.calendly.invitee.canceled.v1"]
    first["$defs"]["Location"]["properties"]["floor"] = {"type": "integer"}
    with pytest.raises(ValueError, match="two objects are called Location"):
        shared_objects([first, second])


def unknown_fields(data: Any, schema: Schema, root: Schema, where: str = "data") -> list[str]:
    """List the fields of a value that its schema does not name; what is open by nature (`extra`, `data`) left out."""
    options = [
        root["$defs"][option["$ref"].rpartition("/")[2]] if "$ref" in option else option
        for option in schema.get("anyOf", [schema])
    ]
    if isinstance(data, list):
        items = next(option["items"] for option in options if option.get("type") == "array")
        return [name for item in data for name in unknown_fields(item, items, root, f"{where}[]")]
    if not isinstance(data, dict) or any(option.get("additionalProperties") is True for option in options):
        return []
    [fields] = [option["properties"] for option in options if "properties" in option]
    found = [f"{where}.{name}" for name in data.keys() - fields.keys()]
    for name in data.keys() & fields.keys():
        found += unknown_fields(data[name], fields[name], root, f"{where}.{name}")
    return found


def add_everywhere(value: Any, name: str) -> None:
    """Add a field to each object in a value."""
    for item in list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        add_everywhere(item, name)
    if isinstance(value, dict):
        value[name] = {"new": True}
