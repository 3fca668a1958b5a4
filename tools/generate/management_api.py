"""The management API's references, made from its table of routes: the OpenAPI document and a page to read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import orjson

from slotwire.ingest.control.catalogue import DEFAULT_EVENTS
from slotwire.ingest.operate.cursors import DEFAULT_PAGE, MAX_PAGE
from slotwire.ingest.operate.idempotency import ABANDONED_AFTER, MAX_KEY, RETENTION
from slotwire.ingest.operate.openapi import document
from slotwire.ingest.operate.problems import CALENDLY_STATUS, STATUS
from slotwire.ingest.operate.roles import Role

PAGE = """# Management API

{made}

`slotwire control` serves it on `SLOTWIRE_ADMIN__HOST`:`SLOTWIRE_ADMIN__PORT`, by default 127.0.0.1:8081. For programs
there is an OpenAPI document: [openapi.json](openapi.json), which is also served at `/openapi.json`.

Send a key with every request. Make the first one on a machine that has the database's address; it is shown only once:

```sh
KEY=$(slotwire keys api create --role admin)
curl -s -H "Authorization: Bearer $KEY" http://127.0.0.1:8081/v1/events?limit=2
```

A key reaches all organizations, or only one (`--organization`). For a key of one organization all others do not
exist. Roles: {roles}

Lists return `items` and `next_cursor`. Send `next_cursor` as `cursor` to get the next page; it is null on the last
one. A page has {default} items unless you set `limit`, which is at most {most}. Times are RFC 3339 in UTC.

Some requests call Calendly, with the organization's own connection. You send its Calendly token once, in the body of
a POST. It is stored encrypted, and no response shows it.

You can send a POST with the header `Idempotency-Key`: a name of your own for the request, of 1 to {longest} visible
ASCII characters. If you send the same request, byte for byte, with the same name again, it is carried out once: for
{kept} hours you get the first response again, 2xx or 4xx, with `Idempotent-Replayed: true`. While the first request
is running you get 409, `idempotency_key_in_use`, with `Retry-After`. Another request with the same name gets 422,
`idempotency_key_reused`. A response of 5xx, or with `Retry-After`, is not stored: send the request again under the same
name. A request whose process died in the middle is carried out again after {abandoned} seconds.

Errors are `application/problem+json` with `status`, `code`, `detail` and `remedy`. If the request is not valid,
`errors` names the fields. An unexpected error has only an `id`, under which the log of `slotwire control` has the
details.
"""
OTHER_ERRORS = """
All other codes are 400, and all other problems at Calendly 422. 500 is a defect on our side. With 503, `Retry-After`
says when to try again.
"""


def pages(made: str) -> dict[str, str]:
    """Return both references by their path from the root."""
    described = document()
    return {
        "docs/reference/openapi.json": orjson.dumps(described, option=orjson.OPT_INDENT_2).decode() + "\n",
        "docs/reference/management-api.md": "\n".join(_page(described, made)),
    }


def _page(described: dict[str, Any], made: str) -> Iterator[str]:
    roles = "; ".join(f"`{role}` {text}" for role, text in _ROLES.items()) + "."
    yield PAGE.format(
        made=made,
        roles=roles,
        default=DEFAULT_PAGE,
        most=MAX_PAGE,
        longest=MAX_KEY,
        kept=RETENTION // timedelta(hours=1),
        abandoned=ABANDONED_AFTER // timedelta(seconds=1),
    )
    schemas = described["components"]["schemas"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield f"## {method.upper()} {path}\n"
            yield f"{operation['summary']} {operation['description']}\n"
            yield from _inputs(operation)
            status, answer = next(iter(operation["responses"].items()))
            name = _name(answer["content"]["application/json"]["schema"])
            yield f"Response: {status}, [{name}](#{name.lower()}).\n"
    yield "## Errors\n"
    yield "| status | code |\n| --- | --- |"
    statuses = {**STATUS, **{f"calendly_{problem}": status for problem, status in CALENDLY_STATUS.items()}}
    for status in sorted(set(statuses.values())):
        codes = ", ".join(f"`{code}`" for code, its in sorted(statuses.items()) if its == status)
        yield f"| {status} | {codes} |"
    yield OTHER_ERRORS
    for name, schema in schemas.items():
        if "properties" in schema:
            yield f"## {name}\n"
            yield f"{_flat(schema.get('description', ''))}\n"
            yield "| field | type | meaning |\n| --- | --- | --- |"
            for field, form in schema["properties"].items():
                yield f"| `{field}` | {_type(form)} | {_flat(form.get('description', ''))} |".replace("|  |", "| |")
            yield ""
    names = ", ".join(f"`{event}`" for event in DEFAULT_EVENTS)
    yield f"Events of bookings and routing forms, which a subscription has by default: {names}.\n"


_FORMATS = {"date-time": "time", "uuid": "UUID", "password": "secret"}
_ROLES = {
    Role.READER: "reads events, bookings, deliveries and subscriptions, including personal data",
    Role.OPERATOR: "also adds organizations and connections, makes and ends subscriptions, and settles quarantined "
    "deliveries",
    Role.ADMIN: "also removes organizations, makes and revokes keys, and reads the audit",
}


def _inputs(operation: dict[str, Any]) -> Iterator[str]:
    rows = [_row(parameter) for parameter in operation["parameters"] if parameter["in"] != "path"]
    if rows:
        yield "| parameter | in | type | meaning |\n| --- | --- | --- | --- |"
        yield from rows
        yield ""
    if "requestBody" in operation:
        name = _name(operation["requestBody"]["content"]["application/json"]["schema"])
        yield f"Body: [{name}](#{name.lower()}).\n"


def _row(parameter: dict[str, Any]) -> str:
    place = f"{parameter['in']}, required" if parameter["required"] else parameter["in"]
    return f"| `{parameter['name']}` | {place} | {_type(parameter['schema'])} | {_flat(parameter['description'])} |"


def _type(form: dict[str, Any]) -> str:
    """Say in a few words what fits."""
    if "$ref" in form:
        return f"[{_name(form)}](#{_name(form).lower()})" if _name(form) != "Role" else _choices(list(Role))
    if "anyOf" in form:
        return " or ".join(_type(item) for item in form["anyOf"])
    if "enum" in form:
        return _choices(form["enum"])
    if form.get("type") == "array":
        return f"list of {_type(form['items'])}"
    bounds = [
        text.format(form[key])
        for key, text in (("minimum", "≥ {}"), ("maximum", "≤ {}"), ("maxLength", "at most {} characters"))
        if key in form
    ]
    kind = {"date-time": "time", "uuid": "UUID", "password": "secret"}.get(
        form.get("format", ""), form.get("type", "any")
    )
    return ", ".join([kind, *bounds])


def _choices(values: list[Any]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
