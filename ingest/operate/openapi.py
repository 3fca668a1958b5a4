"""The management API's OpenAPI 3.1 document, made from the table of routes and their models."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from slotwire.ingest.operate.idempotency import HEADER, KEY_FORM, MAX_KEY, REPLAYED, RETENTION
from slotwire.ingest.operate.models import Problem
from slotwire.ingest.operate.problems import RETRY_AFTER_SECONDS
from slotwire.ingest.operate.routes import ROUTES
from slotwire.ingest.operate.routes.base import ORG_FORM, Route

_VARIABLE = re.compile(r"{(\w+)}")
_PATH_FORMS = {
    "id": {"type": "string", "format": "uuid"},
    "org": {"type": "string", "pattern": f"^{ORG_FORM}$"},
}
_TEXT = (
    "Reads the log and manages subscriptions. Send a key with every request: `Authorization: Bearer slw_...`; "
    "`slotwire keys api create` makes the first one. Lists return `items` and `next_cursor`; errors are "
    "problem+json with a `code`."
)


@cache
def document() -> dict[str, Any]:
    """Return the document, which is the same for the same version. It takes 50 ms of CPU, so it is made once."""
    forms = [form for route in ROUTES for form in _models(route)]
    _, found = models_json_schema([*forms, (Problem, "serialization")], ref_template="#/components/schemas/{model}")
    schemas = found["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Slotwire management API", "version": version("slotwire"), "description": _TEXT},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def _models(route: Route) -> list[tuple[type[BaseModel], Any]]:
    found: list[tuple[type[BaseModel], Any]] = [(route.gives, "serialization")]
    return found if route.takes is None else [*found, (route.takes, "validation")]


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "tags": [route.noun],
        "summary": route.summary,
        "description": f"Needs a key with the role `{route.role}` or more"
        f"{' that reaches all organizations' if route.everywhere else ''}.",
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.takes is not None:
        content = {"application/json": {"schema": _reference(route.takes.__name__)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_FORMS[name]}
        for name in _VARIABLE.findall(route.path)
    ]
    if route.query is not None:
        described = route.query.model_json_schema()
        for name, form in described["properties"].items():
            bare = {key: value for key, value in form.items() if key not in {"description", "title"}}
            text = form.get("description", "")
            required = name in described.get("required", ())
            found.append({"name": name, "in": "query", "required": required, "description": text, "schema": bare})
    if route.repeatable:
        text = (
            f"A name of your own for this request. The same request with the same name is carried out once: for "
            f"{RETENTION // timedelta(hours=1)} hours it gets the first response again, with the header `{REPLAYED}`."
        )
        form = {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": f"^{KEY_FORM}$"}
        found.append({"name": HEADER, "in": "header", "required": False, "description": text, "schema": form})
    return found


def _responses(route: Route) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(route.gives.__name__)}}
    good: dict[str, Any] = {"description": "Success.", "content": content}
    if route.repeatable:
        text = f"`true` if this is the response to an earlier request with the same `{HEADER}`."
        good["headers"] = {REPLAYED: {"description": text, "schema": {"type": "string", "enum": ["true"]}}}
    problem = {"application/problem+json": {"schema": _reference("Problem")}}
    return {
        **{str(status): good for status in route.statuses},
        "401": {"description": "No key, or one that is not valid.", "content": problem},
        "403": {"description": "The key's role is too low, or it does not reach the organization.", "content": problem},
        "503": {
            "description": f"Postgres is away, or Calendly limits requests; `Retry-After` says how long to wait "
            f"({RETRY_AFTER_SECONDS} s for Postgres).",
            "content": problem,
        },
        "default": {"description": "An error, with a `code`.", "content": problem},
    }


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
