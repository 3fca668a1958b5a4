"""The AsyncAPI document: topics, keys, headers, messages and examples are those of the code, and it holds together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft202012Validator

from slotwire.schemas.codec import Attributes, decode, encode_headers
from slotwire.schemas.events import BY_TYPE, EVENT_CLASSES
from slotwire.schemas.topics import EVENT_TOPICS, RELAY_CURSOR
from tools.generate import asyncapi
from tools.generate.asyncapi import EXAMPLES, PATH, Document
from tools.sources import ROOT

DOCUMENT: Document = orjson.loads((ROOT / PATH).read_bytes())
MESSAGES = DOCUMENT["components"]["messages"]
# Which fields an object of AsyncAPI 3.0.0 may have: its specification, "Specification". Those we need, and no more.
FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "root": (
        {"asyncapi", "info"},
        {"id", "servers", "defaultContentType", "channels", "operations", "components"},
    ),
    "info": (
        {"title", "version"},
        {"termsOfService", "contact", "license", "description", "tags", "externalDocs"},
    ),
    "channel": (
        {"address", "messages"},
        {"title", "summary", "description", "servers", "parameters", "tags", "externalDocs", "bindings"},
    ),
    "operation": (
        {"action", "channel"},
        {"title", "summary", "description", "tags", "bindings", "traits", "messages", "reply"},
    ),
    "message": (
        {"name", "payload"},
        {"headers", "contentType", "title", "summary", "description", "tags", "bindings", "examples", "traits"},
    ),
    "example": ({"headers", "payload"}, {"name", "summary"}),
}
_KEY = re.compile(r"[A-Za-z0-9.\-_]+")


def problems(document: Document) -> list[str]:
    """Say what makes a document none of AsyncAPI 3.0, as far as ours goes."""
    found = [*_fields("root", document, "document"), *_fields("info", document["info"], "info")]
    components = document["components"]
    for name, channel in document["channels"].items():
        found += _fields("channel", channel, name)
        if set(re.findall(r"\{([^}]+)\}", channel["address"])) != set(channel["parameters"]):
            found.append(f"{name}: its parameters are not those of its address")
    for name, operation in document["operations"].items():
        found += _fields("operation", operation, name)
        here = f"{operation['channel']['$ref']}/messages/"
        found += [
            f"{name}: {each['$ref']} is of another channel"
            for each in operation["messages"]
            if not each["$ref"].startswith(here)
        ]
    for name, message in components["messages"].items():
        found += _fields("message", message, name)
        for example in message["examples"]:
            found += _fields("example", example, f"{name}'s example")
    keys = [*document["channels"], *document["operations"], *components["messages"], *components["messageTraits"]]
    found += [f"{key}: not a key of AsyncAPI's" for key in keys if not _KEY.fullmatch(key)]
    return found + [
        f"{reference} leads nowhere" for reference in references(document) if resolved(document, reference) is None
    ]


def _fields(kind: str, value: Document, where: str) -> list[str]:
    needed, allowed = FIELDS[kind]
    missing = [f"{where}: has no {name}" for name in sorted(needed - value.keys())]
    return missing + [f"{where}: {name} is no field of it" for name in sorted(value.keys() - needed - allowed)]


def references(value: Any) -> Iterator[str]:
    """Yield every reference in a document; examples hold data, not references."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for name, item in value.items():
            if name != "examples":
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolved(document: Document, reference: str) -> Any:
    """Follow a reference, within the document or to a file beside it; None if it leads nowhere."""
    file, _, pointer = reference.partition("#")
    if file:
        path = (ROOT / PATH).parent / file
        found: Any = orjson.loads(path.read_bytes()) if path.is_file() else None
    else:
        found = document
    for step in filter(None, pointer.split("/")):
        found = found.get(step) if isinstance(found, dict) else None
    return resolved(document, found["$ref"]) if isinstance(found, dict) and set(found) == {"$ref"} else found


def header_schema(kind: str) -> Document:
    """Return the headers of a message with those of its trait, as AsyncAPI merges them."""
    [trait] = [resolved(DOCUMENT, each["$ref"]) for each in MESSAGES[kind]["traits"]]
    common, own = trait["headers"], MESSAGES[kind]["headers"]["properties"]
    merged = {
        name: {**common["properties"].get(name, {}), **own.get(name, {})} for name in {**common["properties"], **own}
    }
    return {"type": "object", "required": common["required"], "properties": merged}


def test_it_holds_together() -> None:
    """Every object has the fields AsyncAPI 3.0 wants and no other, and every reference leads somewhere."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert problems(DOCUMENT) == []
    assert len(list(references(DOCUMENT))) > 4 * len(EVENT_CLASSES)


OF_INVITEES = "#/channels/calendly.invitee/messages/com.calendly.invitee.created.v1"
PLANTED: dict[str, Callable[[Document], object]] = {
    "info: has no version": lambda document: document["info"].pop("version"),
    "calendly.contact: publish is no field of it": lambda document: document["channels"]["calendly.contact"].update(
        publish={}
    ),
    "calendly.contact: its parameters are not those of its address": lambda document: document["channels"][
        "calendly.contact"
    ].update(address="contact"),
    f"publish.calendly.contact: {OF_INVITEES} is of another channel": lambda document: document["operations"][
        "publish.calendly.contact"
    ]["messages"].append({"$ref": OF_INVITEES}),
    "./jsonschema/none.json leads nowhere": lambda document: document["components"]["messages"][
        "com.calendly.contact.created.v1"
    ]["payload"]["schema"].update({"$ref": "./jsonschema/none.json"}),
    "a b: not a key of AsyncAPI's": lambda document: document["components"]["messageTraits"].update({"a b": {}}),
}


@pytest.mark.parametrize("finding", PLANTED)
def test_what_does_not_hold_together_is_found(finding: str) -> None:
    """The rules bite: each planted fault is found, and only that."""
    document = deepcopy(DOCUMENT)
    PLANTED[finding](document)
    assert problems(document) == [finding]


def test_every_type_is_in_its_topic_once() -> None:
    """Each topic of events is a channel under its own name, and each type a message of its topic's, once."""
    assert {name: channel["address"] for name, channel in DOCUMENT["channels"].items()} == {
        topic.name: f"{{topicPrefix}}{topic.name}" for topic in EVENT_TOPICS
    }
    assert RELAY_CURSOR.name not in DOCUMENT["channels"]
    placed = Counter((name, kind) for name, channel in DOCUMENT["channels"].items() for kind in channel["messages"])
    assert placed == Counter((cls.topic.name, cls.type) for cls in EVENT_CLASSES)
    sent = Counter(
        (operation["channel"]["$ref"].rpartition("/")[2], each["$ref"].rpartition("/")[2])
        for operation in DOCUMENT["operations"].values()
        for each in operation["messages"]
    )
    assert sent == placed
    assert {operation["action"] for operation in DOCUMENT["operations"].values()} == {"send"}
    assert sorted(message["name"] for message in MESSAGES.values()) == sorted(kind for _, kind in placed)
    for message in MESSAGES.values():
        kind = message["name"]
        assert message["title"] == BY_TYPE[kind].__name__
        assert message["payload"]["schema"]["$ref"] == f"./jsonschema/{kind}.json"
        assert message["bindings"]["kafka"]["key"]["description"] == f"{BY_TYPE[kind].topic.key}."


def test_every_header_is_described() -> None:
    """The headers are those the codec writes: always, and where they apply; each with a type and what it means."""
    least = Attributes(UUID(int=1), "type", "organization", "subject", datetime.now(UTC), "key", 1)
    now = datetime.now(UTC)
    most = Attributes(
        UUID(int=1), "type", "o", "s", now, "k", 1, now, "00", True, "webhook", "replay", "tenant", "/v1/events/1"
    )
    for kind in MESSAGES:
        headers = header_schema(kind)
        assert headers["required"] == [name for name, _ in encode_headers(least)]
        assert list(headers["properties"]) == [name for name, _ in encode_headers(most)]
        for name, form in headers["properties"].items():
            assert form["type"] == "string", name
            assert "const" in form or form.get("description", "").endswith("."), name


@pytest.mark.parametrize("kind", BY_TYPE)
def test_its_example_is_a_record(kind: str) -> None:
    """The example fits the message's headers and schema, and the codec reads it as an event of its class."""
    [example] = MESSAGES[kind]["examples"]
    beside = orjson.loads((ROOT / EXAMPLES / f"{kind}.json").read_bytes())
    assert (beside["headers"], beside["value"]) == (example["headers"], example["payload"])
    assert beside["topic"] == BY_TYPE[kind].topic.name
    Draft202012Validator(header_schema(kind)).validate(example["headers"])
    Draft202012Validator(resolved(DOCUMENT, MESSAGES[kind]["payload"]["schema"]["$ref"])).validate(example["payload"])
    wire = [(name, value.encode()) for name, value in example["headers"].items()]
    event = decode(wire, orjson.dumps(example["payload"]))
    assert type(event.data) is BY_TYPE[kind]
    assert event.key == beside["key"]
    assert event.source == "/organizations/ORGANIZATION"
    assert not event.inferred, "show a told event"


def test_a_type_without_a_payload_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a scenario there is no example, and the generator says where one is missing."""
    monkeypatch.setattr(asyncapi, "scenarios", list)
    monkeypatch.setattr(asyncapi, "STORIES", ())
    with pytest.raises(ValueError, match=r"com\.calendly\.invitee\.created\.v1, .*: add a scenario to tests/payloads/"):
        asyncapi.examples()
