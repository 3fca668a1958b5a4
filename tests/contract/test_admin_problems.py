"""Errors of the management API: problem+json with a code, what to do, and nothing that should stay inside."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr, ValidationError

from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    ConfigurationError,
    DatabaseUnavailable,
    RequestRefused,
    SecretUnreadable,
)
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.admin_api import MAX_BODY_BYTES
from slotwire.ingest.operate.models import KeyRequest, Problem
from slotwire.ingest.operate.problems import RETRY_AFTER_SECONDS, problem_of
from tests.support.management_api import management_api, write_organization
from tests.support.public_endpoint import settings_for

SECRET = "a-token-that-nobody-may-see"
SUBSCRIPTIONS = "/v1/organizations/ORG/subscriptions"
CONNECTIONS = "/v1/organizations/ORG/connections"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", "/v1/events/", None, 404, "not_found"),
        ("PUT", "/v1/events", None, 405, "method_not_allowed"),
        ("HEAD", "/v1/events", None, 405, None),
        ("GET", "/v1/events/not-an-id", None, 404, "not_found"),
        ("GET", "/v1/events/00000000-0000-0000-0000-000000000009", None, 404, "not_found"),
        ("GET", "/v1/events?limits=1", None, 400, "parameter_invalid"),
        ("GET", "/v1/events?limit=1&limit=2", None, 400, "parameter_invalid"),
        ("GET", "/v1/events?organization=a%20b", None, 400, "parameter_invalid"),
        ("GET", "/v1/deliveries?outcome=lost", None, 400, "parameter_invalid"),
        ("GET", "/v1/deliveries?event_id=7", None, 400, "parameter_invalid"),
        ("GET", "/v1/bookings/timeline", None, 400, "parameter_invalid"),
        ("GET", "/v1/bookings/timeline?invitee=nobody", None, 404, "not_found"),
        ("GET", "/v1/bookings/timeline?invitee=" + "x" * 2000, None, 404, "not_found"),
        ("GET", "/v1/bookings/timeline?invitee=" + "x" * 2001, None, 400, "parameter_invalid"),
        ("GET", "/v1/bookings?state=gone", None, 400, "parameter_invalid"),
        ("GET", "/v1/quarantine?state=lost", None, 400, "parameter_invalid"),
        ("GET", "/v1/quarantine?reason=" + "x" * 101, None, 400, "parameter_invalid"),
        ("GET", "/v1/quarantine/00000000-0000-0000-0000-000000000009", None, 404, "not_found"),
        ("POST", "/v1/quarantine/00000000-0000-0000-0000-000000000009/retry", None, 404, "not_found"),
        ("POST", "/v1/quarantine/00000000-0000-0000-0000-000000000009/discard", {"why": "x"}, 404, "not_found"),
        ("POST", "/v1/quarantine/00000000-0000-0000-0000-000000000009/discard", {"why": " "}, 400, "body_invalid"),
        ("POST", "/v1/quarantine/00000000-0000-0000-0000-000000000009/discard", {}, 400, "body_invalid"),
        ("GET", "/v1/events?type=" + "x" * 201, None, 400, "parameter_invalid"),
        ("GET", "/v1/events?subject=" + "x" * 2001, None, 400, "parameter_invalid"),
        ("GET", "/v1/events?subject=%00", None, 400, "value_refused"),
        ("POST", "/v1/keys", {"role": "boss"}, 400, "body_invalid"),
        ("POST", "/v1/keys", {"role": "reader", "rôle": 1}, 400, "body_invalid"),
        ("POST", "/v1/keys", {"role": "reader", "label": "x" * 201}, 400, "body_invalid"),
        ("POST", "/v1/keys", {"role": "reader", "organization": "NOBODY"}, 422, "organization_unknown"),
        ("POST", "/v1/keys", [], 400, "body_invalid"),
        ("POST", "/v1/organizations", {"token": ""}, 400, "body_invalid"),
        ("POST", "/v1/organizations", {"token": SECRET, "events": [SECRET, 1]}, 400, "body_invalid"),
        ("POST", "/v1/organizations", {"token": SECRET, "max_age_seconds": 0}, 400, "body_invalid"),
        ("POST", "/v1/organizations", {"token": SECRET, "events": ["invitee.rescheduled"]}, 422, "event_unknown"),
        ("POST", "/v1/organizations", {"token": SECRET}, 504, "calendly_unreachable"),
        ("POST", "/v1/organizations", {"token": "two words"}, 422, "token_unfit"),
        ("POST", CONNECTIONS, {"token": SECRET, "user": SECRET}, 400, "body_invalid"),
        ("POST", CONNECTIONS, {"token": SECRET}, 504, "calendly_unreachable"),
        ("POST", SUBSCRIPTIONS, {"user": "x", "group": "y"}, 400, "body_invalid"),
        ("POST", SUBSCRIPTIONS, {"token": SECRET}, 400, "body_invalid"),
        ("POST", SUBSCRIPTIONS, {}, 409, "connection_missing"),
        ("DELETE", f"{SUBSCRIPTIONS}/00000000-0000-0000-0000-000000000009", None, 404, "not_found"),
        ("GET", f"/v1/organizations/{'x' * 200}/subscriptions", None, 200, None),
        ("GET", f"/v1/organizations/{'x' * 201}/subscriptions", None, 404, "not_found"),
        ("GET", "/v1/organizations/a%0A/subscriptions", None, 404, "not_found"),
        ("GET", "/v1/events?subject=" + "x" * 9000, None, 431, "request_unreadable"),
    ],
)
async def test_every_bad_request_has_its_answer(
    method: str, path: str, body: object, status: int, code: str | None, database: Database
) -> None:
    """Each mistake has a status, a code and what to do, in problem+json, and never holds the token."""
    settings = settings_for(database).model_copy(update={"calendly": CalendlySettings(api_url="http://127.0.0.1:9")})
    async with management_api(settings) as api:
        await write_organization(database, "ORG")
        response = await api.ask(method, path, await api.key(), json=body)
    assert response.status_code == status
    assert response.headers["Cache-Control"] == "no-store"
    assert SECRET not in response.text
    if code is not None:
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = Problem.model_validate_json(response.content)
        assert (problem.status, problem.code) == (status, code)
        assert problem.remedy


async def test_what_is_no_http_is_a_problem_and_is_not_repeated(
    database: Database, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A header that no HTTP has is 400 as problem+json; neither the answer nor a log holds what was sent."""
    async with management_api(settings_for(database)) as api:
        address = urlsplit(api.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\x7f\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
    assert " 400 " in answer.partition("\r\n")[0]
    assert "application/problem+json" in answer
    assert "request_unreadable" in answer
    printed = capsys.readouterr()
    assert SECRET not in answer + caplog.text + printed.out + printed.err


async def test_a_wrong_method_names_the_right_ones(database: Database) -> None:
    """405 lists what there is."""
    async with management_api(settings_for(database)) as api:
        response = await api.ask("PATCH", "/v1/keys", await api.key())
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, POST")


async def test_the_longest_body_and_one_past_it(database: Database) -> None:
    """A body of MAX_BODY_BYTES is read, one octet more is 413, said in its header or found while reading."""
    longest = b'{"role":"reader"}'.ljust(MAX_BODY_BYTES)
    json = {"Content-Type": "application/json"}
    async with management_api(settings_for(database)) as api:
        key = await api.key()
        fits = await api.ask("POST", "/v1/keys", key, content=longest, headers=json)
        refused = await api.ask("POST", "/v1/keys", key, content=longest + b" ", headers=json)
    assert fits.status_code == 201
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_body_that_is_not_json_is_415(kind: str, database: Database) -> None:
    """A form cannot be sent in place of JSON."""
    async with management_api(settings_for(database)) as api:
        response = await api.ask(
            "POST", "/v1/keys", await api.key(), content=b'{"role":"reader"}', headers={"Content-Type": kind}
        )
    assert (response.status_code, response.json()["code"]) == (415, "media_type")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 5000, b"null"])
async def test_a_body_that_cannot_be_read_is_400(body: bytes, database: Database) -> None:
    """No JSON, another encoding, a pit of brackets: 400 and no stack trace."""
    async with management_api(settings_for(database)) as api:
        headers = {"Content-Type": "application/json"}
        response = await api.ask("POST", "/v1/keys", await api.key(), content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "body_invalid")


async def test_without_postgres_it_says_so_and_when_to_come_back(database: Database) -> None:
    """A database out of reach is 503 with Retry-After, quickly."""
    settings = settings_for(database).model_copy(
        update={"database_url": SecretStr("postgresql://nobody:x@127.0.0.1:9/none")}
    )
    async with management_api(settings) as api, asyncio.timeout(10):
        response = await api.ask("GET", "/v1/events", "slw_" + "A" * 43)
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert response.headers["Retry-After"] == str(RETRY_AFTER_SECONDS)


@pytest.mark.parametrize(
    ("error", "status", "code", "wait"),
    [
        (RequestRefused("x", code="something_new"), 400, "something_new", None),
        (DatabaseUnavailable("x", reason="y"), 503, "database_unavailable", RETRY_AFTER_SECONDS),
        (ConfigurationError("x", remedy="y"), 500, "misconfigured", None),
        (SecretUnreadable("x"), 500, "misconfigured", None),
        (CalendlyError("x", problem=CalendlyProblem.LIMITED, wait=59.6), 503, "calendly_limited", 60),
        (CalendlyError("x", problem=CalendlyProblem.LIMITED, wait=0), 503, "calendly_limited", 1),
        (CalendlyError("x", problem=CalendlyProblem.UPSTREAM), 502, "calendly_upstream", None),
        (CalendlyError("x", problem=CalendlyProblem.UNREACHABLE), 504, "calendly_unreachable", None),
        (CalendlyError("x", problem=CalendlyProblem.UNEXPECTED), 502, "calendly_unexpected", None),
        (CalendlyError("x", problem=CalendlyProblem.CONFLICT), 409, "calendly_conflict", None),
        *(
            (CalendlyError("x", problem=problem), 422, f"calendly_{problem}", None)
            for problem in (
                CalendlyProblem.INVALID,
                CalendlyProblem.CREDENTIAL,
                CalendlyProblem.SCOPE,
                CalendlyProblem.PLAN,
                CalendlyProblem.PERMISSION,
                CalendlyProblem.NOT_FOUND,
            )
        ),
    ],
)
def test_every_kind_of_error_has_its_status(error: Exception, status: int, code: str, wait: int | None) -> None:
    """Our own errors are told with their code, and how long to wait where waiting helps."""
    problem, told = problem_of(error)
    assert (problem.status, problem.code, told) == (status, code, wait)
    assert problem.detail == "x"


def test_an_unknown_error_gives_an_id_only(capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody foresaw gives 500 and an id; neither the answer nor the log holds the exception's text."""
    problem, _ = problem_of(KeyError(SECRET))
    printed = capsys.readouterr()
    assert (problem.status, problem.code) == (500, "internal")
    assert problem.id
    assert SECRET not in problem.model_dump_json()
    assert SECRET not in printed.out + printed.err


def test_invalid_fields_are_named_without_their_values() -> None:
    """A validation error names places, at most ten, and none of the values."""
    with pytest.raises(ValidationError) as caught:
        KeyRequest.model_validate({"role": SECRET, **{f"x{number}": SECRET for number in range(20)}})
    problem, _ = problem_of(caught.value)
    assert len(problem.errors) == 10
    assert problem.errors[0].startswith("role: ")
    assert SECRET not in problem.model_dump_json()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/organizations/ORG/subscriptions/resume", "POST"),
        ("/v1/organizations/ORG/signing-keys/rotate", "POST"),
        ("/v1/organizations/ORG/subscriptions/00000000-0000-0000-0000-000000000000", "DELETE, GET"),
    ],
)
async def test_a_word_beside_an_id_is_no_id(database: Database, path: str, allowed: str) -> None:
    """What a path allows is what is documented for it, also where an id could stand in the word's place."""
    async with management_api(settings_for(database)) as api:
        answer = await api.ask("PUT", path, await api.key())
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
