"""The OpenAPI document says what the management API does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.openapi import document
from slotwire.ingest.operate.routes import ROUTES
from tests.support.management_api import (
    management_api,
    write_booking,
    write_deliveries,
    write_events,
    write_organization,
    write_quarantine,
)
from tests.support.public_endpoint import settings_for

DOCUMENT = document()


def references(node: Any) -> Iterator[str]:
    """Give every reference of the document."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_route_is_described() -> None:
    """Document and table hold the same routes, under names that are unique."""
    described = {(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert described == {(route.method, route.path) for route in ROUTES}
    names = [operation["operationId"] for operations in DOCUMENT["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere() -> None:
    """No reference is broken, and no schema is there for nothing."""
    wanted = {name.removeprefix("#/components/schemas/") for name in references(DOCUMENT)}
    assert wanted == set(DOCUMENT["components"]["schemas"])


def test_nothing_secret_is_an_example_or_in_an_answer() -> None:
    """Tokens are write-only where they are taken, and no answer has one, nor an address that is a secret.

    But for the address of a link that was just made: it is shown this once, like a key.
    """
    schemas, taken = DOCUMENT["components"]["schemas"], {route.takes.__name__ for route in ROUTES if route.takes}
    tokens = [(name, form["token"]) for name in taken if "token" in (form := schemas[name]["properties"])]
    assert {name for name, _ in tokens} == {"OrganizationRequest", "ConnectionStart"}
    for _, token in tokens:
        text, *others = token.get("anyOf", [token])  # it may be left out where a link is made instead
        assert text["writeOnly"] is True
        assert others in ([], [{"type": "null"}])
        assert "examples" not in token
    for name in set(schemas) - taken:
        shown = set(schemas[name].get("properties", ()))
        secret = shown & {"token", "url", "callback_url", "hook", "hook_id", "signing_key", "sealed"}
        assert secret == ({"url"} if name in {"ConnectLinkCreated", "ApprovalLinkCreated"} else set()), name


async def test_it_is_served_without_a_key(database: Database) -> None:
    """`/openapi.json` answers whoever reaches the port; it holds nothing that is not public."""
    async with management_api(settings_for(database)) as api:
        response = await api.ask("GET", "/openapi.json", None)
    assert (response.status_code, response.json()) == (200, DOCUMENT)


@pytest.mark.parametrize(
    "path", ["/v1/events", "/v1/events/{id}", "/v1/deliveries", "/v1/bookings", "/v1/quarantine", "/v1/keys"]
)
async def test_answers_have_the_form_that_is_described(path: str, database: Database) -> None:
    """A real answer has the fields of its schema, and a real refusal is a problem."""
    await write_organization(database, "ORG")
    [event] = await write_events(database, "ORG", 1)
    await write_deliveries(database, "ORG", 1, event_id=event)
    await write_booking(database, "ORG", "I")
    await write_quarantine(database, "ORG", [b"{}"], first=9)
    async with management_api(settings_for(database)) as api:
        good = await api.ask("GET", path.format(id=event), await api.key())
        refused = await api.ask("GET", path.format(id=event), None)
    answers = DOCUMENT["paths"][path]["get"]["responses"]
    for response, status, kind in ((good, "200", "application/json"), (refused, "401", "application/problem+json")):
        assert str(response.status_code) == status
        assert response.headers["Content-Type"].startswith(kind)
        schema = resolved(answers[status]["content"][kind]["schema"])
        assert set(schema["required"]) <= set(response.json()) <= set(schema["properties"])
        for item in response.json().get("items", []):
            assert set(item) == set(resolved(schema["properties"]["items"]["items"])["properties"])


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference to its schema."""
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
