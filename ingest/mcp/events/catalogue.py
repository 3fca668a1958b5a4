"""Pure: the event types an agent can ask for, with the arguments they take and what their data looks like.

Made from `schemas/`. An occurrence is enough to recognise an event and to decide whether to look closer. What stays
behind is what somebody could act with (links that cancel a meeting, conference passwords), and what is long: tools
return the full record to whoever may read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slotwire.ingest.mcp.events.profiles import EventsProblem, EventsRefused, WireProfile
from slotwire.schemas.events import BY_TYPE
from slotwire.schemas.topics import EVENT_TYPE, INVITEE, ROUTING_FORM

LEFT_OUT = frozenset(
    {
        "cancel_url",
        "credential_id",
        "custom_questions",
        "description_html",
        "description_plain",
        "event_guests",
        "extra",
        "guests",
        "idempotency_key",
        "internal_note",
        "join_url",
        "location",
        "locations",
        "meeting_notes_html",
        "meeting_notes_plain",
        "payment",
        "questions_and_answers",
        "reconfirmation",
        "reconnect_url",
        "reschedule_url",
        "text_reminder_number",
        "tracking",
    }
)
"""Fields that no occurrence has, wherever they stand."""
TYPED = frozenset({"canceled_by", "email", "first_name", "last_name", "name", "reason", "user_name"})
"""Fields that somebody typed, of events that Calendly sends: text to read, never an instruction."""
UNTRUSTED = "io.slotwire/untrusted"
"""The member of an occurrence's `_meta` that names them, as JSON pointers into `data`."""
REFERENCE = "reference"
"""The one member of data that stands for data too large for an occurrence."""
MAX_ARGUMENTS = 4_000
"""Characters of canonical arguments."""


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    origin: Literal["webhook", "backfill", "reconcile", "retry", "own"] | None = None
    """Only events that came in like this: `webhook` leaves out what was read later, `backfill` is history."""


class _InviteeArguments(_Arguments):
    event_type: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """Only bookings of this event type: its URI at Calendly."""
    invitee_domain: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")] | None = None
    """Only bookings of invitees with a mail address at this domain, for example `example.com`."""


class _EventTypeArguments(_Arguments):
    event_type: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """Only this event type: its URI at Calendly."""


class _RoutingFormArguments(_Arguments):
    routing_form: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """Only submissions of this form: its URI at Calendly."""


_BY_TOPIC: Mapping[str, type[_Arguments]] = MappingProxyType(
    {INVITEE.name: _InviteeArguments, EVENT_TYPE.name: _EventTypeArguments, ROUTING_FORM.name: _RoutingFormArguments}
)


def arguments_of(name: str) -> type[BaseModel]:
    """Return the model of an event type's arguments."""
    return _BY_TOPIC.get(BY_TYPE[name].topic.name, _Arguments)


def read_arguments(name: str, arguments: object) -> Mapping[str, str]:
    """Check the arguments of a request.

    Raises:
        EventsRefused: they do not fit the type's input schema. What was sent is not repeated.
    """
    try:
        read = arguments_of(name).model_validate({} if arguments is None else arguments, strict=True)
    except ValidationError as error:
        places = {".".join(map(str, issue["loc"])) or "arguments" for issue in error.errors(include_url=False)}
        known = ", ".join(arguments_of(name).model_fields)
        raise EventsRefused(
            EventsProblem.INVALID_PARAMS,
            f"arguments do not fit at: {', '.join(sorted(places))[:200]}. {name} takes: {known}.",
        ) from None
    return {key: value for key, value in read.model_dump().items() if value is not None}


def canonical(arguments: object) -> str:
    """Write arguments in the one way in which equal ones are equal texts: the order of members does not matter.

    Raises:
        EventsRefused: they are no object, or too long.
    """
    given = {} if arguments is None else arguments
    if not isinstance(given, dict):
        raise EventsRefused(EventsProblem.INVALID_PARAMS, "arguments must be an object")
    text = json.dumps(given, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if len(text) > MAX_ARGUMENTS:
        raise EventsRefused(EventsProblem.INVALID_PARAMS, f"arguments are longer than {MAX_ARGUMENTS} characters")
    return text


def descriptor(name: str, profile: WireProfile) -> dict[str, Any]:
    """Describe an event type, as `events/list` does."""
    described = _described(name)
    return {"name": name, **described, "delivery": list(profile.modes)}


@cache
def _described(name: str) -> dict[str, Any]:
    schema = json.loads(files("slotwire.schemas").joinpath("jsonschema", f"{name}.json").read_text(encoding="utf-8"))
    kept = _pruned(schema)
    kept = {key: value for key, value in kept.items() if key not in {"$id", "$schema", "$defs", "title"}}
    payload = {
        "$schema": schema["$schema"],
        "$defs": _used_definitions(kept, _pruned(schema.get("$defs", {}))),
        "anyOf": [
            kept,
            {
                "type": "object",
                "description": "Stands for data that is too large: fetch the event by its id.",
                "properties": {REFERENCE: {"type": "string"}},
                "required": [REFERENCE],
                "additionalProperties": False,
            },
        ],
    }
    accepted = arguments_of(name).model_json_schema()
    accepted = {"type": "object", "properties": accepted["properties"], "additionalProperties": False}
    text = " ".join((BY_TYPE[name].__doc__ or name).split("\n\n")[0].split())
    return {"description": text, "inputSchema": accepted, "payloadSchema": payload}


def _pruned(schema: Any) -> Any:
    """Leave out of a schema what no occurrence has."""
    if isinstance(schema, list):
        return [_pruned(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _pruned(value) for key, value in schema.items()}
    if isinstance(kept.get("properties"), dict):
        kept["properties"] = {key: value for key, value in kept["properties"].items() if key not in LEFT_OUT}
    if isinstance(kept.get("required"), list):
        kept["required"] = [each for each in kept["required"] if each not in LEFT_OUT]
    return kept


def _used_definitions(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definitions that a schema refers to, directly or by others."""
    used: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        text = json.dumps(waiting.pop())
        for name, definition in definitions.items():
            if name not in used and f'"#/$defs/{name}"' in text:
                used[name] = definition
                waiting.append(definition)
    return used


def kept_of(data: Any) -> Any:
    """Leave out of an event's data what no occurrence has."""
    if isinstance(data, list):
        return [kept_of(each) for each in data]
    if isinstance(data, dict):
        return {key: kept_of(value) for key, value in data.items() if key not in LEFT_OUT}
    return data


def typed_places(data: Any, *, at: str = "") -> list[str]:
    """Return where somebody typed something, as JSON pointers, in the order of the data."""
    if isinstance(data, list):
        return [place for index, each in enumerate(data) for place in typed_places(each, at=f"{at}/{index}")]
    if not isinstance(data, dict):
        return []
    found: list[str] = []
    for key, value in data.items():
        if key in TYPED and isinstance(value, str):
            found.append(f"{at}/{key}")
        else:
            found.extend(typed_places(value, at=f"{at}/{key}"))
    return found
