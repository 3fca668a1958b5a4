"""Bad bodies at every POST route: the field is named, and nothing of what was sent is in the answer or in a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import orjson
import pytest
from pydantic import BaseModel

from slotwire.ingest.operate.dead_letter_models import RedriveRequest
from slotwire.ingest.operate.idempotency import HEADER
from slotwire.ingest.operate.routes import ROUTES
from slotwire.ingest.operate.routes.base import Route
from tests.support.populated_api import BODIES, IN_ONE_LOOP, PopulatedApi

SECRET = "tok-9d1c-nobody-may-see-this"


def text_fields(form: type[BaseModel]) -> tuple[str, ...]:
    """Which fields of a model can hold text, alone or in a list."""
    fields = form.model_json_schema()["properties"]
    return tuple(name for name, schema in fields.items() if b'"string"' in orjson.dumps(schema) or "$ref" in schema)


WITH_BODIES = [
    pytest.param(route, route.takes, id=f"{route.method} {route.path}") for route in ROUTES if route.takes is not None
]
WITH_TOKENS = [
    pytest.param(route, id=f"{route.method} {route.path}")
    for route in ROUTES
    if route.takes is not None and "token" in text_fields(route.takes)
]


def bad_bodies(
    form: type[BaseModel], good: Mapping[str, Any], fields: tuple[str, ...]
) -> Iterator[tuple[str | None, bytes]]:
    """Give bodies that hold the secret and do not fit, with the field that is to be named."""
    wrong = ([SECRET, [SECRET]], {SECRET: SECRET}, [{"a": SECRET}], [SECRET, 1], SECRET * 1000, 5)
    for field in fields:
        longest = form.model_json_schema()["properties"][field].get("maxLength", 0)
        for value in wrong:
            if isinstance(value, str) and len(value) <= longest:
                continue  # it fits
            yield field, orjson.dumps({**good, field: value, "no_such_field": SECRET})
    everywhere = dict.fromkeys(fields, SECRET)
    yield "no_such_field", orjson.dumps({**good, **everywhere, "no_such_field": SECRET})
    for whole in (SECRET, [SECRET], {SECRET[:3]: 1} | everywhere):
        yield None, orjson.dumps(whole)
    yield None, b'{"token": "' + SECRET.encode()
    yield None, b'{"token": "' + SECRET.encode() + b'\xff"}'
    yield None, SECRET.encode() + b"{}"


@IN_ONE_LOOP
@pytest.mark.parametrize(("route", "form"), WITH_BODIES)
async def test_an_error_does_not_quote_a_bad_body(
    route: Route,
    form: type[BaseModel],
    shared_api: PopulatedApi,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each string field with a secret in a body that does not fit: 400 that names the field and holds no value."""
    good, key, fields = BODIES[form](shared_api.running), await shared_api.api.key(), text_fields(form)
    assert fields or form is RedriveRequest
    for field, body in bad_bodies(form, good, fields):
        response = await post(shared_api, route, key, body)
        assert (response.status_code, response.json()["code"]) == (400, "body_invalid"), body[:200]
        assert SECRET not in response.text, body[:200]
        if field is not None:
            assert any(place.startswith(field) for place in response.json()["errors"]), (field, response.text)
    printed = capsys.readouterr()
    assert SECRET not in caplog.text + printed.out + printed.err
    assert SECRET not in str(await shared_api.state())


@IN_ONE_LOOP
@pytest.mark.parametrize("route", WITH_TOKENS)
async def test_a_token_that_calendly_refuses_is_not_quoted(
    route: Route, shared_api: PopulatedApi, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token that fits and is none, first and repeated: refused, and neither told, logged, kept nor audited."""
    key = await shared_api.api.key()
    for token in (SECRET, SECRET + " ", SECRET + "\n", SECRET + "\u00e9"):
        body = orjson.dumps({"token": token})
        for _ in range(2):
            response = await post(shared_api, route, key, body, {HEADER: str(len(body))})
            assert response.status_code == 422
            assert SECRET not in response.text
    printed = capsys.readouterr()
    assert SECRET not in caplog.text + printed.out + printed.err
    assert SECRET not in str(await shared_api.state())
    traces = await shared_api.api.actions.pool.fetch(
        "SELECT a::text FROM slotwire.audit a UNION ALL SELECT a::text FROM slotwire.idempotent_answers a"
    )
    assert traces
    assert SECRET not in str(traces)


async def post(
    populated: PopulatedApi, route: Route, key: str, body: bytes, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Send a body as it is."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    return await populated.api.ask(route.method, populated.path(route), key, content=body, headers=sent)
