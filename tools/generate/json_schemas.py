"""The published contract for programs, made from `slotwire.schemas.events`: a JSON Schema a type, and a page to read.

Schemas say what is written (pydantic's serialization mode). They leave every object open: within a version fields are
added, and a consumer must not refuse them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import orjson

from slotwire.schemas.codec import DATASCHEMA
from slotwire.schemas.events import EVENT_CLASSES, EventData
from tools.documents import anchor

Schema = dict[str, Any]

FOLDER = "schemas/jsonschema"
PAGE_PATH = "docs/reference/event-types.md"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SENSITIVE = {
    ("Location", "join_url"),
    ("Location", "data"),
    *((cls.__name__, field) for cls in EVENT_CLASSES for field in ("cancel_url", "reschedule_url")),
}
"""Class and field of what is as good as a key or may hold a password; `x-sensitive` in the schemas."""

PAGE = """# Event types, field by field

{made}

The data of every published type: the value of its records, as JSON. How records travel, with which headers:
[events](events.md). For programs the same is in [JSON Schemas](../../schemas/jsonschema) (draft 2020-12, one a type,
named by the header `ce_dataschema`), [examples](../../schemas/examples) (a whole record each) and an
[AsyncAPI document](../../schemas/asyncapi.json).

Within a version fields are only added, and only optional ones, so leave unknown fields alone. Every object may have
`extra`: an object with the fields of Calendly's that this version does not know, or that came in another type than
documented, as they came; one that a later version can read moves from there to its own place. *Sensitive* marks what
works like a key for whoever holds it, or may hold a password (`x-sensitive` in the schemas): keep it out of logs.
"""


def pages(made: str) -> dict[str, str]:
    """Return every schema and the page by its path from the root."""
    files = {f"{FOLDER}/{kind}.json": as_json(schema) for kind, schema in json_schemas().items()}
    return {**files, PAGE_PATH: "\n".join(_page(made)) + "\n"}


@cache
def json_schemas() -> Mapping[str, Schema]:
    """Return the JSON Schema of each published type's data, by type, made once."""
    return {cls.type: json_schema(cls) for cls in EVENT_CLASSES}


def json_schema(cls: type[EventData]) -> Schema:
    """Describe what is written as the data of a type."""
    made = cls.model_json_schema(mode="serialization")
    for definition in (made, *made.get("$defs", {}).values()):
        _finish(definition)
    first = {"$schema": DIALECT, "$id": f"{DATASCHEMA}{cls.type}"}
    return {**first, **{name: made[name] for name in ("title", "description", "type")}, **made}


def _finish(definition: Schema) -> None:
    """Write descriptions in one line, mark sensitive fields, and leave out titles that only repeat a field's name."""
    for name, field in definition["properties"].items():
        field.pop("title", None)
        if "description" in field:
            field["description"] = flat(field["description"])
        if (definition["title"], name) in SENSITIVE:
            field["x-sensitive"] = True
    definition["description"] = flat(definition["description"])


def as_json(document: object) -> str:
    """Write a document as its file holds it."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def flat(text: str) -> str:
    """Write a text in one line."""
    return " ".join(text.split())


def _page(made: str) -> Iterator[str]:
    schemas = json_schemas()
    yield PAGE.format(made=made)
    told: list[str] = []
    for cls in EVENT_CLASSES:
        yield f"## `{cls.type}`\n"
        yield f"{schemas[cls.type]['description']}\n"
        source = f"Calendly's `{cls.calendly_event}`" if cls.calendly_event else "ours, derived"
        yield (
            f"Class `{cls.__name__}`, {source}; topic `{cls.topic.name}`. "
            f"[Schema](../../{FOLDER}/{cls.type}.json), [example](../../schemas/examples/{cls.type}.json).\n"
        )
        yield from _own_fields(schemas[cls.type], [schemas[kind] for kind in told])
        told.append(cls.type)
    yield "## Objects\n"
    yield "What the types above are made of.\n"
    for name, definition in sorted(shared_objects(schemas.values()).items()):
        yield f"### {name}\n"
        yield f"{definition['description']}\n"
        yield from _table(definition, definition["properties"])


def _own_fields(schema: Schema, told: Iterable[Schema]) -> Iterator[str]:
    """Write the fields of a type; those of one that was told before by its name."""
    fields, needed = schema["properties"], set(schema.get("required", ()))
    for other in told:
        shared = other["properties"]
        if all(fields.get(name) == field for name, field in shared.items()) and needed & shared.keys() == set(
            other.get("required", ())
        ):
            kind = other["$id"].removeprefix(DATASCHEMA)
            own = fields.keys() - shared.keys()
            yield f"The fields of [`{kind}`](#{anchor(kind)}){', and:' if own else '.'}\n"
            if own:
                yield from _table(schema, own)
            return
    yield from _table(schema, fields)


def shared_objects(schemas: Iterable[Schema]) -> dict[str, Schema]:
    """Return the objects that types are made of, by name.

    Raises:
        ValueError: two types mean different things by one name.
    """
    found: dict[str, Schema] = {}
    for schema in schemas:
        for name, definition in schema.get("$defs", {}).items():
            if found.setdefault(name, definition) != definition:
                raise ValueError(f"two objects are called {name}: give one of the classes another name")
    return found


def _table(definition: Schema, names: Collection[str]) -> Iterator[str]:
    yield "| field | type | always | meaning |\n| --- | --- | --- | --- |"
    for name, field in definition["properties"].items():
        if name in names and name != "extra":
            always = "yes" if name in definition.get("required", ()) else ""
            meaning = [field.get("description", ""), "*Sensitive.*" if field.get("x-sensitive") else ""]
            cells = f"`{name}`", words(field), always, " ".join(filter(None, meaning))
            yield re.sub(r"  +", " ", f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    yield ""


def words(schema: Mapping[str, Any]) -> str:
    """Say in a few words what fits a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(words(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {words(schema['items'])}"
    if "maxLength" in schema:
        return f"text, {schema.get('minLength', 0):,} to {schema['maxLength']:,} characters"
    kinds = {"string": "text", "integer": "whole number", "boolean": "true or false", "date-time": "time"}
    kind = str(schema.get("format", schema.get("type", "any")))
    return kinds.get(kind, kind)
