"""The published contract as an AsyncAPI 3.0 document, and an example record a type.

Examples are not written by hand: they are what payload scenarios become, beside `tests/payloads/`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from slotwire.ingest.log.delivery import Origin
from slotwire.schemas.codec import (
    CONTENT_TYPE,
    DATASCHEMA,
    INFERRED,
    ORIGIN,
    REPLAY,
    Attributes,
    encode_headers,
)
from slotwire.schemas.events import BY_TYPE, EVENT_CLASSES, EventData
from slotwire.schemas.topics import EVENT_TOPICS, OPERATIONS, SCHEDULED_EVENT, Topic
from tools.expected import FOLDER as PAYLOADS
from tools.expected import expected_file, outcome_of, scenarios
from tools.generate.json_schemas import FOLDER as SCHEMAS
from tools.generate.json_schemas import as_json, json_schema
from tools.generate.own_events import own_events
from tools.sources import ROOT

Document = dict[str, Any]

PATH = "schemas/asyncapi.json"
EXAMPLES = "schemas/examples"
SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
BINDING = "0.5.0"
PREFIX = "{topicPrefix}"

STORIES = (
    ("invitee.canceled/reschedule_old_half", "invitee.created/reschedule_new_half"),
    ("invitee_no_show.created/marked", "invitee_no_show.deleted/no_show_null"),
)
"""Scenarios that are told together: a reschedule needs both halves, and what is cleared a mark."""

DESCRIPTION = (
    "Calendly's webhooks as CloudEvents 1.0 over the Kafka protocol binding, binary content mode: attributes travel as "
    "headers, the value is the event's data as JSON. Read with isolation.level=read_committed. Records of one key come "
    "in order. Within a version of a type fields are only added, and only optional ones."
)
OWN = (OPERATIONS, SCHEDULED_EVENT)
"""The topics of events that no delivery of Calendly's becomes."""
_TIME = {"type": "string", "format": "date-time"}
ALWAYS: dict[str, Document] = {
    "ce_specversion": {"type": "string", "const": "1.0"},
    "ce_id": {
        "type": "string",
        "format": "uuid",
        "description": "The event's id: the same fact always has the same one.",
    },
    "ce_source": {
        "type": "string",
        "format": "uri-reference",
        "pattern": "^/organizations/[A-Za-z0-9_-]+$",
        "description": "The organization: the last segment of its URI at Calendly.",
    },
    "ce_type": {"type": "string", "description": "The type, its major version last."},
    "ce_subject": {"type": "string", "format": "uri", "description": "The URI of what the event is about."},
    "ce_time": {**_TIME, "description": "When it happened, as far as Calendly says; UTC."},
    "ce_dataschema": {"type": "string", "format": "uri", "description": "The `$id` of the JSON Schema of the data."},
    "ce_partitionkey": {"type": "string", "minLength": 1, "description": "The record's key."},
    "ce_sequence": {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "The position in the log; grows within a shard, with gaps.",
    },
    "content-type": {"type": "string", "const": CONTENT_TYPE.decode()},
}
"""Headers of every record; their values are UTF-8."""
SOMETIMES: dict[str, Document] = {
    "ce_recordedtime": {**_TIME, "description": "When the delivery arrived; UTC."},
    "traceparent": {
        "type": "string",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        "description": "The trace of the delivery that caused it; W3C Trace Context.",
    },
    INFERRED: {
        "type": "string",
        "const": "true",
        "description": "Concluded from a later event of the same invitee.",
    },
    ORIGIN: {
        "type": "string",
        "description": "How its delivery came in: `webhook`, `backfill`, `reconcile`, `retry` or `own`.",
        "examples": [each.value for each in Origin],
    },
    REPLAY: {"type": "string", "description": "The replay that sent it again."},
    "ce_tenant": {"type": "string", "description": "The organization's `external_id`."},
    "ce_dataref": {
        "type": "string",
        "format": "uri-reference",
        "description": "The data is too large for a record and waits there; the value is empty.",
    },
}
"""Headers of the records they apply to."""


@dataclass(frozen=True)
class Example:
    """A record as a consumer reads it.

    Attributes:
        headers: as text; on the wire they are its UTF-8.
        value: the data, parsed.
    """

    cls: type[EventData]
    key: str
    headers: dict[str, str]
    value: Document


def pages() -> dict[str, str]:
    """Return the document and the examples by their path from the root."""
    shown = examples()
    files = {
        f"{EXAMPLES}/{kind}.json": as_json(
            {"topic": example.cls.topic.name, "key": example.key, "headers": example.headers, "value": example.value}
        )
        for kind, example in shown.items()
    }
    return {**files, PATH: as_json(document(shown))}


def examples() -> dict[str, Example]:
    """Return a record for each published type: the fullest that a payload scenario becomes; ours are made here.

    Raises:
        ValueError: a type has no scenario.
    """
    best: dict[str, Document] = {}
    for event in _told():
        known = best.get(event["type"])
        if known is None or _fullness(event) > _fullness(known):
            best[event["type"]] = event
    if missing := [cls.type for cls in EVENT_CLASSES if cls.type not in best]:
        raise ValueError(f"nothing becomes {', '.join(missing)}: add a scenario to tests/payloads/, or make one here")
    return {cls.type: _example(best[cls.type]) for cls in EVENT_CLASSES}


def _told() -> Iterator[Document]:
    for scenario in scenarios():
        yield from orjson.loads(expected_file(scenario).read_bytes()).get("events", ())
    for story in STORIES:
        yield from outcome_of(*((PAYLOADS / f"{name}.json").read_bytes() for name in story))["events"]
    yield from own_events()


def _fullness(event: Document) -> tuple[bool, bool, int]:
    """Say how good an example an event is: told, of fields that are known, and of many."""
    data = orjson.dumps(event["data"])
    return not event["inferred"], b'"extra"' not in data, len(data)


def _example(event: Document) -> Example:
    cls = BY_TYPE[event["type"]]
    attributes = Attributes(
        id=UUID(event["id"]),
        type=event["type"],
        organization="ORGANIZATION",
        subject=event["subject"],
        time=datetime.fromisoformat(event["time"]),
        key=event["key"],
        sequence=1042,  # one for all, so that a new type changes no example but its own
        recorded_time=datetime(2026, 11, 23, 9, 0, 0, 125000, tzinfo=UTC),
        traceparent=None if cls.topic in OWN else f"00-{UUID(event['id']).hex}-{UUID(event['id']).hex[:16]}-00",
        inferred=event["inferred"],
        origin=(Origin.OWN if cls.topic in OWN else Origin.WEBHOOK).value,
    )
    headers = {name: value.decode() for name, value in encode_headers(attributes)}
    return Example(cls, event["key"], headers, event["data"])


def document(shown: dict[str, Example]) -> Document:
    """Describe topics, keys, headers and messages; examples by type."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Slotwire events",
            "version": project["version"],
            "description": DESCRIPTION,
            "license": {"name": project["license"]},
        },
        "defaultContentType": CONTENT_TYPE.decode(),
        "channels": {topic.name: _channel(topic) for topic in EVENT_TOPICS},
        "operations": {f"publish.{topic.name}": _operation(topic) for topic in EVENT_TOPICS},
        "components": {
            "messageTraits": {
                "cloudEvent": {
                    "contentType": CONTENT_TYPE.decode(),
                    "headers": {
                        "type": "object",
                        "properties": {**ALWAYS, **SOMETIMES},
                        "required": list(ALWAYS),
                    },
                }
            },
            "messages": {cls.type: _message(cls, shown[cls.type]) for cls in EVENT_CLASSES},
        },
    }


def _types(topic: Topic) -> list[str]:
    return [cls.type for cls in EVENT_CLASSES if cls.topic is topic]


def _channel(topic: Topic) -> Document:
    return {
        "address": f"{PREFIX}{topic.name}",
        "description": f"Keyed by {topic.key}.",
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in _types(topic)},
        "parameters": {
            PREFIX.strip("{}"): {
                "description": "What SLOTWIRE_KAFKA__TOPIC_PREFIX says; empty unless set.",
                "default": "",
            }
        },
        "bindings": {
            "kafka": {
                "topicConfiguration": {"cleanup.policy": ["compact" if topic.compacted else "delete"]},
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(topic: Topic) -> Document:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"Slotwire publishes to {topic.name}.",
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{kind}"} for kind in _types(topic)],
    }


def _message(cls: type[EventData], example: Example) -> Document:
    return {
        "name": cls.type,
        "title": cls.__name__,
        "summary": json_schema(cls)["description"],
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "headers": {
            "type": "object",
            "properties": {
                "ce_type": {"type": "string", "const": cls.type},
                "ce_dataschema": {"type": "string", "const": f"{DATASCHEMA}{cls.type}"},
            },
        },
        "payload": {
            "schemaFormat": SCHEMA_FORMAT,
            "schema": {"$ref": f"./{SCHEMAS.removeprefix('schemas/')}/{cls.type}.json"},
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "minLength": 1, "description": f"{cls.topic.key}."},
                "bindingVersion": BINDING,
            }
        },
        "examples": [{"name": "example", "headers": example.headers, "payload": example.value}],
    }
