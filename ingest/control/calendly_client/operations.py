"""Any operation of Calendly's REST API, by its name: put together from the table, checked, and made.

The table (`operation_table.py`) says which values an operation takes and where they go; a call is checked before
anything is sent. What Calendly answers is left as it came, so nothing that it adds is lost.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from slotwire.ingest.control.calendly_client import pages
from slotwire.ingest.control.calendly_client.resources import MAX_URI, ORIGIN
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.operation_table import Operation, Parameter

MAX_BODY_BYTES = 262_144
"""A longer body is refused before it is sent; the largest documented one holds 500 addresses."""
BODY = "requestBody"
"""How the table calls the body of an operation whose body is not a flat list of values."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_COLLECTIONS = MappingProxyType(
    {
        "organization": "organizations",
        "user": "users",
        "group": "groups",
        "event_type": "event_types",
        "form": "routing_forms",
        "contact": "contacts",
        "contact_list": "contact_lists",
        "contacts": "contacts",
        "host": "users",
        "event": "scheduled_events",
        "user_availability_schedule": "user_availability_schedules",
    }
)
"""Parameters that take a resource's URI: a bare id is made into one of these collections."""


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call that can be sent.

    Attributes:
        operation: which one.
        path: without braces.
        query: Calendly's names.
        body: None where it has none.
    """

    operation: Operation
    path: str
    query: Mapping[str, str | Sequence[str]]
    body: Any


def prepare(chosen: Operation, given: Mapping[str, Sequence[str]], body: Any = None) -> PreparedCall:
    """Put a call together, and check it: nothing is sent.

    Args:
        chosen: the operation.
        given: values by parameter; several only for an `array`. Where Calendly wants the URI of a resource, its bare id
            does too; where it wants an id in the path, the whole URI does.
        body: the JSON body of an operation that has one which is not flat.

    Raises:
        RequestRefused: something is missing, unknown or of another type (`call_invalid`).
    """
    given = {name: values for name, values in given.items() if values}
    takes = {each.name: each for each in chosen.takes if each.name != BODY}
    if unknown := sorted(given.keys() - takes.keys()):
        listed = ", ".join(takes) or "nothing"
        raise _invalid(chosen, f"it does not take {', '.join(unknown)}", f"It takes: {listed}.")
    missing = [each.name for each in takes.values() if each.required and not given.get(each.name)]
    wants_body = any(each.name == BODY and each.required for each in chosen.parameters)
    if wants_body and body is None:
        missing.append("a JSON body")
    if missing:
        raise _invalid(chosen, f"it needs {', '.join(missing)}", "Give each as NAME=VALUE; a body with --body.")
    if body is not None and not wants_body:
        raise _invalid(chosen, "it takes no JSON body", "Give its values as NAME=VALUE.")
    path, query, flat = chosen.path, dict[str, str | Sequence[str]](), dict[str, Any]()
    for name, values in given.items():
        parameter = takes[name]
        if parameter.place == "path":
            path = path.replace(f"{{{name}}}", _identifier(chosen, name, values))
        elif parameter.place == "query":
            value = _value(chosen, parameter, values)
            query[name] = value if isinstance(value, list) else _text(value)
        else:
            flat[name] = _value(chosen, parameter, values)
    sent = _with_uris(body) if wants_body else flat or None
    if sent is not None and len(orjson.dumps(sent)) > MAX_BODY_BYTES:
        raise _invalid(chosen, f"its body is longer than {MAX_BODY_BYTES} bytes", "Make several calls of it.")
    return PreparedCall(chosen, path, query, sent)


async def items(calendly: CalendlyTransport, call: PreparedCall) -> AsyncIterator[Any]:
    """Read a list to its end, page after page, each item as it came.

    Raises:
        CalendlyError: see `pages.documents`.
    """
    async for page in pages.documents(calendly, call.path, doing=call.operation.name, query=call.query):
        for item in page:
            yield item


async def perform(calendly: CalendlyTransport, call: PreparedCall) -> Any:
    """Make one call, and return what Calendly answers: None where it answers nothing.

    Raises:
        CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream`, a call that changes something may
            have had its effect.
    """
    return await calendly.exchange(
        call.operation.method, call.path, doing=call.operation.name, query=call.query, body=call.body
    )


def _identifier(chosen: Operation, name: str, values: Sequence[str]) -> str:
    """Return the id that goes into a path: a bare one, or the last segment of a URI of Calendly."""
    [value, *more] = values
    bare = value.rpartition("/")[2] if value.startswith(f"{ORIGIN}/") and len(value) <= MAX_URI else value
    if more or not _ID.fullmatch(bare):
        raise _invalid(chosen, f"{name} is not an id, and no URI of Calendly", f"Give an id, or {ORIGIN}/….")
    return bare


def _value(chosen: Operation, parameter: Parameter, values: Sequence[str]) -> Any:
    if parameter.type == "array":
        return [_expanded(parameter.name, part) for value in values for part in value.split(",") if part]
    [value, *more] = values
    if more:
        raise _invalid(chosen, f"{parameter.name} takes one value", "Give it once.")
    match parameter.type:
        case "integer" | "number":
            if not re.fullmatch(r"-?\d{1,15}", value, re.ASCII):
                raise _invalid(chosen, f"{parameter.name} is not a number", f"Give {parameter.name}=1, for example.")
            return int(value)
        case "boolean":
            if value not in {"true", "false"}:
                raise _invalid(chosen, f"{parameter.name} is true or false", f"Give {parameter.name}=true.")
            return value == "true"
    return _expanded(parameter.name, value)


def _expanded(name: str, value: str) -> str:
    """Make a bare id into a URI where Calendly wants one."""
    collection = _COLLECTIONS.get(name)
    if collection is None or not _ID.fullmatch(value):
        return value
    return f"{ORIGIN}/{collection}/{value}"


def _with_uris(body: Any) -> Any:
    """Make bare ids into URIs where Calendly wants them, among the values of a body."""
    if not isinstance(body, dict):
        return body
    return {name: _expanded(name, value) if isinstance(value, str) else value for name, value in body.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _invalid(chosen: Operation, what: str, remedy: str) -> RequestRefused:
    return RequestRefused(f"{chosen.name}: {what}", code="call_invalid", remedy=remedy)
