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

`slotwire control` serves it on `SLOTWIRE_ADMIN__HOST`:`SLOTWIRE_ADMIN__PORT`, 127.0.0.1:8081 unless set. The same as a
document for programs: [openapi.json](openapi.json), served at `/openapi.json` too.

Every request carries a key. The first one is made on a machine that has the database's address, and is shown once:

```sh
KEY=$(slotwire keys api create --role admin)
curl -s -H "Authorization: Bearer $KEY" http://127.0.0.1:8081/v1/events?limit=2
```

A key reaches all organizations, or one (`--organization`). To a key of one organization every other one answers as if
it did not exist. Roles: {roles}

Lists give `items` and `next_cursor`: give that back as `cursor` for the next page; it is null on the last one. A page
has {default} items, {most} at the most. Times are RFC 3339 in UTC.

Some calls ask Calendly, with the organization's own connection. The Calendly token for it comes once, in the body of a
POST; it is kept sealed, and no answer shows it.

A POST may carry the header `Idempotency-Key`: any name of your own for the request, of 1 to {longest} visible ASCII
characters. Sent again with the same name, octet by octet, it is carried out once: for {kept} hours the first answer
comes again, 2xx or 4xx, with `Idempotent-Replayed: true`. While the first one runs the answer is 409,
`idempotency_key_in_use`, with `Retry-After`; another request under the same name is 422, `idempotency_key_reused`. An
answer of 5xx is not kept. A request whose process died in the middle is carried out anew after {abandoned} seconds.

Errors are `application/problem+json` with `status`, `code`, `detail` and `remedy`; where the request does not fit,
`errors` says where. An error nobody foresaw has an `id` that the log of `slotwire control` has too, and nothing else.
"""
OTHER_ERRORS = """
Another code is 400; another problem at Calendly is 422; 500 is ours; 503 says in `Retry-After` when to come back.
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
            yield f"Answer: {status}, [{name}](#{name.lower()}).\n"
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
    yield f"Events that can be subscribed to: {', '.join(f'`{event}`' for event in DEFAULT_EVENTS)}.\n"


_FORMATS = {"date-time": "time", "uuid": "UUID", "password": "secret"}
_ROLES = {
    Role.READER: "reads events, bookings, deliveries and subscriptions, personal data included",
    Role.OPERATOR: "adds organizations, connects, subscribes and settles what is in quarantine, too",
    Role.ADMIN: "removes organizations and makes and revokes keys too",
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
