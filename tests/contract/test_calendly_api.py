"""The typed calls: each of the 77 operations asks for what the table says, and reads whatever comes."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotwire.ingest.control.calendly_client.api import CalendlyApi
from slotwire.ingest.control.calendly_client.api.event_types import EventTypesCalls
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, PlanMissing, RequestRefused, ScopeMissing
from slotwire.ingest.foundation.operation_table import Operation, operations
from tests.support.scripted_calendly import ScriptedAnswer, error_answer, scripted_calendly
from tools.generate.calendly_calls import KEYWORDS, example_values

ALL = list(operations().values())
ONCE = CallRetries(attempts=1)
NEW = {"brand_new": {"nested": [1, None]}}


def envelope(operation: Operation) -> object:
    """Make an answer of the documented form, with a field that nobody knows yet."""
    if operation.gives is None:
        return None
    if operation.gives == "str":
        return {"resource": "what was said"}
    if operation.listed:
        return {"collection": [NEW], "pagination": {"count": 1, "next_page": None}}
    return NEW if operation.gives == "SampleDelivery" else {"resource": NEW}


async def called(client: CalendlyTransport, operation: Operation) -> Any:
    """Make an operation's example call, to the end of its list."""
    resource, verb = operation.call.split(".")
    values = {f"{name}_" if name in KEYWORDS else name: value for name, value in example_values(operation).items()}
    found = getattr(getattr(CalendlyApi(client), resource), verb)(**values)
    if isinstance(found, AsyncIterator):
        return [item async for item in found]
    return await found


def sent(request: web.Request, body: bytes) -> set[str]:
    """Return the names of the values of a request, outside its path."""
    held = json.loads(body) if body else {}
    return {*request.query, *(held if isinstance(held, dict) else ())}


async def test_every_operation_has_a_typed_call() -> None:
    """Each example goes out as the table says, whole URIs where Calendly wants them, and unknown fields are kept."""
    assert len({each.call for each in ALL}) == len(ALL) == 77
    async with scripted_calendly(*(ScriptedAnswer(200, envelope(each)) for each in ALL)) as (server, client):
        for number, operation in enumerate(ALL):
            found = await called(client, operation)
            request, body = server.seen[number], server.bodies[number]
            assert request.method == operation.method, operation.name
            shape = re.sub(r"\\\{\w+\\\}", "[A-Z]+", re.escape(operation.path))
            assert re.fullmatch(shape, request.path), (operation.name, request.path)
            known = {each.name for each in operation.parameters if each.place != "path"}
            needed = {each.name for each in operation.takes if each.required and each.place != "path"}
            if operation.body_schema is not None:
                known |= set(operation.body_schema["properties"])
                needed |= set(operation.body_schema.get("required", ()))
            given_names = sent(request, body)
            assert needed - {"requestBody"} <= given_names <= known, operation.name
            for name in {"organization", "user", "event_type", "contact", "form"} & set(request.query):
                assert request.query[name].startswith("https://api.calendly.com/"), (operation.name, name)
            for item in found if isinstance(found, (list, tuple)) else [found]:
                if operation.gives not in {None, "str"}:
                    assert type(item).__name__ == operation.gives
                    assert item.brand_new == NEW["brand_new"], "what is not documented is kept"
                    assert "nested" not in repr(item)


async def test_every_call_has_an_example_and_says_what_it_needs() -> None:
    """The documentation of each call has its method, path, scope and an example that names it."""
    async with scripted_calendly(ScriptedAnswer(204)) as (_, client):
        api = CalendlyApi(client)
    for operation in ALL:
        resource, verb = operation.call.split(".")
        said = inspect.getdoc(getattr(getattr(api, resource), verb)) or ""
        for words in (f"`{operation.method} {operation.path}`", f"`{operation.scope}`", f"calendly.{operation.call}("):
            assert words in said, (operation.name, words)


async def test_null_is_not_the_same_as_not_given() -> None:
    """A limit that is not given is left out of the body; None takes it away; ids and times are written out."""
    answer = ScriptedAnswer(200, {"resource": {}})
    async with scripted_calendly(answer) as (server, client):
        await CalendlyApi(client).user_meeting_limits.update(user="U", daily_limit=None, weekly_limit=3)
        assert json.loads(server.bodies[0]) == {"daily_limit": None, "weekly_limit": 3}
        with pytest.raises(RequestRefused, match="not an id"):
            await CalendlyApi(client).contacts.get("../users/me")
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (
            error_answer(403, "Insufficient scope", "No.", required_scopes=["event_types:read"]),
            ScopeMissing,
            "Tick these scopes for a new token, or let the user consent again: event_types:read",
        ),
        (
            error_answer(403, "Permission Denied", "Please upgrade your Calendly account to Enterprise."),
            PlanMissing,
            "It needs the plan enterprise: the owner of the organization at Calendly can upgrade",
        ),
        (
            error_answer(403, "Permission Denied", "Please upgrade to a paid Calendly account."),
            PlanMissing,
            "It needs a paid plan: the owner of the organization",
        ),
    ],
)
async def test_a_gate_says_what_to_tick_or_buy_and_who(
    answer: ScriptedAnswer, kind: type[CalendlyError], says: str
) -> None:
    """A missing scope or plan is an error of its own type, whose remedy names it and who can mend it."""
    async with scripted_calendly(answer) as (_, client):
        with pytest.raises(kind) as caught:
            await EventTypesCalls(client).get("E")
    assert says in caught.value.remedy


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("uri", "created_at", "start_time", "collection", "resource", "pagination", "next_page", "next_page_token")
documents = st.dictionaries(st.sampled_from((*FIELDS, "name", "emails", "events", "title", "details")), json_values)
enveloped = documents.map(lambda one: {"resource": one}) | st.lists(documents, max_size=3).map(
    lambda many: {"collection": many, "pagination": {}}
)
bodies = st.one_of(
    json_values.map(json.dumps),
    documents.map(json.dumps),
    enveloped.map(json.dumps),
    enveloped.map(lambda one: json.dumps(one)[:-3]),
    st.text(max_size=30).map(lambda text: f"<!doctype html><p>{text}"),
    st.just("\ufeff{}"),
)
answers = st.tuples(st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 409, 418, 500]), bodies)


@given(st.lists(st.tuples(st.sampled_from(ALL), answers), min_size=40, max_size=80))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
async def test_whatever_is_answered_only_typed_errors_come(cases: list[tuple[Operation, tuple[int, str]]]) -> None:
    """Missing keys, wrong types, a page of a website, half a document: a model, or an error that we know."""
    async with scripted_calendly(ScriptedAnswer(200), retries=ONCE) as (server, client):
        for operation, (status, body) in cases:
            server.answers = [ScriptedAnswer(status, body, html=True)]
            with suppress(CalendlyError):
                await called(client, operation)
        assert len(server.seen) >= len(cases)
