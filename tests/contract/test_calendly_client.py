"""The Calendly client against a real server that answers as Calendly's documents and integrators say.

The bodies are those of docs/reference/calendly.md, "Subscriptions API" and "REST".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import pages as paging
from slotwire.ingest.control.calendly_client import users, webhook_subscriptions
from slotwire.ingest.control.calendly_client.answers import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS
from slotwire.ingest.control.calendly_client.pages import MAX_TOKEN
from slotwire.ingest.control.calendly_client.retries import CallRetries
from slotwire.ingest.control.calendly_client.shared_connections import MAX_ANSWER_BYTES
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.schemas.ids import OrganizationUri
from tests.support.scripted_calendly import (
    QUICK,
    TOKEN,
    ScriptedAnswer,
    connected,
    error_answer,
    scripted_calendly,
)

ORGANIZATION = OrganizationUri("https://api.calendly.com/organizations/ORG")
HOOK = "https://hooks.example.com/hooks/calendly/capability"
URI = "https://api.calendly.com/webhook_subscriptions/SUB"
SUBSCRIPTION = {
    "uri": URI,
    "callback_url": HOOK,
    "created_at": "2026-11-23T12:00:00.000000Z",
    "updated_at": "2026-11-23T12:00:00.000000Z",
    "retry_started_at": None,
    "state": "active",
    "events": ["invitee.created"],
    "scope": "organization",
    "organization": ORGANIZATION,
    "user": None,
    "group": None,
    "creator": "https://api.calendly.com/users/U",
    "a_field_of_tomorrow": 1,
}


async def create(client: CalendlyTransport) -> webhook_subscriptions.WebhookSubscriptionResource:
    """Subscribe."""
    return await webhook_subscriptions.create(
        client, organization=ORGANIZATION, url=HOOK, events=["invitee.created"], signing_key=SecretStr("signing")
    )


async def test_the_users_organization_is_read() -> None:
    """`GET /users/me` gives the organization, sent with the token and a real agent."""
    me = {"resource": {"uri": "https://api.calendly.com/users/U", "current_organization": ORGANIZATION, "name": "Ada"}}
    async with scripted_calendly(ScriptedAnswer(200, me)) as (server, client):
        assert (await users.me(client)).current_organization == ORGANIZATION
    [request] = server.seen
    assert (request.method, request.path) == ("GET", "/users/me")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["User-Agent"].startswith("slotwire/")


async def test_a_subscription_is_asked_for_as_documented() -> None:
    """The body has url, events, organization, scope and signing key; the answer's new fields do no harm."""
    async with scripted_calendly(ScriptedAnswer(201, {"resource": SUBSCRIPTION})) as (server, client):
        made = await create(client)
    assert (made.uri, made.state, made.events) == (URI, "active", ("invitee.created",))
    assert json.loads(server.bodies[0]) == {
        "url": HOOK,
        "events": ["invitee.created"],
        "organization": ORGANIZATION,
        "scope": "organization",
        "signing_key": "signing",
    }
    assert HOOK not in repr(made)


@pytest.mark.parametrize(
    ("answer", "problem", "words"),
    [
        (
            error_answer(
                400,
                "Invalid Argument",
                "The supplied parameters are invalid.",
                details=[{"parameter": "events", "message": "is not allowed"}],
            ),
            CalendlyProblem.INVALID,
            "events: is not allowed",
        ),
        (
            error_answer(401, "Unauthenticated", "The access token was revoked"),
            CalendlyProblem.CREDENTIAL,
            "The access token was revoked",
        ),
        (
            error_answer(403, "Permission Denied", "Please upgrade to a paid Calendly account."),
            CalendlyProblem.PLAN,
            "plan does not include",
        ),
        (
            error_answer(403, "Permission Denied", "Please upgrade your Calendly account to Standard"),
            CalendlyProblem.PLAN,
            "Standard",
        ),
        (
            error_answer(403, "Unauthorized", "You do not have permission"),
            CalendlyProblem.PERMISSION,
            "may not do this",
        ),
        (
            error_answer(403, "InsufficientScopeError", "…", required_scopes=["webhooks:write", "routing_forms:read"]),
            CalendlyProblem.SCOPE,
            "webhooks:write, routing_forms:read",
        ),
        (
            error_answer(404, "Resource Not Found", "The server could not find the requested resource."),
            CalendlyProblem.NOT_FOUND,
            "does not have it",
        ),
        (
            error_answer(409, "Already Exists", "Hook with this url already exists"),
            CalendlyProblem.CONFLICT,
            "exists already",
        ),
        (error_answer(424, "External Calendar Error", "…"), CalendlyProblem.UPSTREAM, "failed with 424"),
        (error_answer(500, "Internal", "…"), CalendlyProblem.UPSTREAM, "failed with 500"),
        (ScriptedAnswer(503, "<html>busy</html>", html=True), CalendlyProblem.UPSTREAM, "failed with 503"),
        (
            ScriptedAnswer(403, "<html>Attention Required!</html>", html=True),
            CalendlyProblem.UPSTREAM,
            "not Calendly's API",
        ),
        (ScriptedAnswer(404, "<html>nginx</html>", html=True), CalendlyProblem.UPSTREAM, "not Calendly's API"),
        (ScriptedAnswer(302, headers={"Location": "https://example.com"}), CalendlyProblem.UNEXPECTED, "redirected"),
        (error_answer(418, "Teapot", "…"), CalendlyProblem.UNEXPECTED, "does not document"),
        (error_answer(429, "Too Many Requests", "…"), CalendlyProblem.LIMITED, "too many requests"),
        (ScriptedAnswer(201, {"resource": {"uri": URI}}), CalendlyProblem.UNEXPECTED, "callback_url"),
        (ScriptedAnswer(200, "<html>welcome</html>", html=True), CalendlyProblem.UNEXPECTED, "documented form"),
        (ScriptedAnswer(204), CalendlyProblem.UNEXPECTED, "documented form"),
    ],
    ids=lambda item: item.value if isinstance(item, CalendlyProblem) else None,
)
async def test_every_refusal_is_told_in_words(answer: ScriptedAnswer, problem: CalendlyProblem, words: str) -> None:
    """Each answer Calendly is known to give becomes a problem of one kind, with what to do, and without the token."""
    async with scripted_calendly(answer) as (server, client):
        with pytest.raises(CalendlyError) as caught:
            await create(client)
    error = caught.value
    assert (error.problem, len(server.seen)) == (problem, 1)
    assert words in error.message
    assert error.remedy
    assert TOKEN not in f"{error!r}{error.remedy}"
    assert error.message.startswith("subscribing at Calendly: ")


@pytest.mark.parametrize("status", [424, 500, 502, 503])
async def test_reading_is_tried_again_and_writing_is_not(status: int) -> None:
    """A failed GET and DELETE are tried again up to the policy; a POST goes out once."""
    for act, times in (
        (lambda client: webhook_subscriptions.get(client, URI), QUICK.attempts),
        (lambda client: webhook_subscriptions.delete(client, URI), QUICK.attempts),
        (create, 1),
    ):
        async with scripted_calendly(ScriptedAnswer(status)) as (server, client):
            with pytest.raises(CalendlyError):
                await act(client)
        assert len(server.seen) == times


async def test_a_passing_failure_is_overcome() -> None:
    """Two failures and a good answer are a good answer."""
    good = ScriptedAnswer(200, {"resource": SUBSCRIPTION})
    async with scripted_calendly(ScriptedAnswer(502), ScriptedAnswer(503, "<html/>", html=True), good) as (
        server,
        client,
    ):
        assert (await webhook_subscriptions.get(client, URI)).uri == URI
    assert len(server.seen) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_plain_no_is_not_asked_again(status: int) -> None:
    """What trying again cannot mend is not tried again."""
    async with scripted_calendly(error_answer(status, "…", "…")) as (server, client):
        with pytest.raises(CalendlyError):
            await webhook_subscriptions.get(client, URI)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7),
        ({"X-RateLimit-Reset": "60"}, 60),
        ({"Retry-After": "3", "X-RateLimit-Reset": "60"}, 3),
        ({"Retry-After": "Mon, 23 Nov 2026 12:00:00 GMT", "X-RateLimit-Reset": "9"}, 9),
        ({"X-RateLimit-Reset": "1e9"}, MAX_WAIT_SECONDS),
        ({"X-RateLimit-Reset": "nan"}, DEFAULT_WAIT_SECONDS),
        ({"X-RateLimit-Reset": "-1"}, DEFAULT_WAIT_SECONDS),
        ({}, DEFAULT_WAIT_SECONDS),
    ],
)
async def test_a_limit_says_how_long_to_wait(headers: dict[str, str], wait: float) -> None:
    """The wait is Retry-After, else the limit's reset, else a minute; a wait beyond the policy is not slept through."""
    async with scripted_calendly(ScriptedAnswer(429, {}, headers)) as (server, client):
        with pytest.raises(CalendlyError) as caught:
            await webhook_subscriptions.get(client, URI)
    assert (caught.value.problem, caught.value.wait, len(server.seen)) == (CalendlyProblem.LIMITED, wait, 1)


def test_a_limit_that_is_over_at_once_is_waited_out_all_the_same() -> None:
    """A reset of 0 may be nearly a second away; and those who wait for one moment do not come back at one moment."""
    policy = CallRetries(first_wait_seconds=0.25)
    waits = {policy.wait_out(0) for _ in range(100)}
    assert min(waits) >= 1
    assert max(waits) <= 1.25
    assert len(waits) > 1
    assert policy.wait_out(30) >= 30


@pytest.mark.parametrize("act", [lambda client: webhook_subscriptions.get(client, URI), create], ids=["read", "write"])
async def test_a_short_limit_is_waited_out(act: Callable[[CalendlyTransport], Awaitable[Any]]) -> None:
    """A wait that the policy allows is waited, and the request goes on; a write too: a 429 did nothing."""
    limited, good = ScriptedAnswer(429, {}, {"Retry-After": "0"}), ScriptedAnswer(200, {"resource": SUBSCRIPTION})
    async with scripted_calendly(limited, good) as (server, client):
        assert (await act(client)).uri == URI
    assert len(server.seen) == 2
    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize(
    ("answer", "times"),
    [
        (error_answer(401, "Unauthenticated", "The access token was revoked"), 1),
        (ScriptedAnswer(401, "<html/>", html=True), 0),
        (error_answer(403, "Permission Denied", "You do not have permission"), 0),
        (error_answer(404, "Resource Not Found", "…"), 0),
        (ScriptedAnswer(200, {"resource": SUBSCRIPTION}), 0),
    ],
)
async def test_who_holds_the_token_hears_of_its_refusal(answer: ScriptedAnswer, times: int) -> None:
    """A 401 of Calendly's own is told before the error is raised; other refusals, and a proxy's 401, are not."""
    told = []

    async def refused(again: bool) -> bool:
        told.append(again)
        return False

    async with scripted_calendly(answer, refused=refused) as (_, client):
        with suppress(CalendlyError):
            await webhook_subscriptions.get(client, URI)
    assert told == [False] * times


async def test_the_list_follows_every_page() -> None:
    """Pages are followed by token, or by the token in `next_page` where an answer gives no other; its host is not."""
    elsewhere = "https://elsewhere.example.com/webhook_subscriptions?page_token=third&count=100"
    pages = (
        ScriptedAnswer(200, {"collection": [SUBSCRIPTION], "pagination": {"count": 1, "next_page_token": "second"}}),
        ScriptedAnswer(200, {"collection": [SUBSCRIPTION], "pagination": {"count": 1, "next_page": elsewhere}}),
        ScriptedAnswer(200, {"collection": [SUBSCRIPTION], "pagination": {"next_page": None, "next_page_token": None}}),
    )
    async with scripted_calendly(*pages) as (server, client):
        found = [item async for item in webhook_subscriptions.of_organization(client, ORGANIZATION)]
    assert len(found) == 3
    assert [request.query.get("page_token") for request in server.seen] == [None, "second", "third"]
    assert {request.query["count"] for request in server.seen} == {"100"}
    assert {request.query["scope"] for request in server.seen} == {"organization"}


async def test_a_list_without_an_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many pages are read; when the last of them has a next one too, the list is given up."""
    most = 20
    monkeypatch.setattr(paging, "MAX_PAGES", most)
    listed = [
        ScriptedAnswer(200, {"collection": [], "pagination": {"next_page_token": str(number)}})
        for number in range(most)
    ]
    async with scripted_calendly(*listed) as (server, client):
        with pytest.raises(CalendlyError, match="has not ended"):
            _ = [item async for item in webhook_subscriptions.of_organization(client, ORGANIZATION)]
    assert len(server.seen) == most
    last = ScriptedAnswer(200, {"collection": [SUBSCRIPTION], "pagination": {"next_page_token": None}})
    async with scripted_calendly(*listed[:-1], last) as (server, client):
        assert len([item async for item in webhook_subscriptions.of_organization(client, ORGANIZATION)]) == 1
    assert len(server.seen) == most


async def test_a_list_that_goes_in_a_circle_ends() -> None:
    """A page whose next page is itself is told at once, not asked for again and again."""
    page = ScriptedAnswer(200, {"collection": [], "pagination": {"next_page_token": "again"}})
    async with scripted_calendly(page) as (server, client):
        with pytest.raises(CalendlyError, match="back to itself"):
            _ = [item async for item in webhook_subscriptions.of_organization(client, ORGANIZATION)]
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "pagination",
    [
        {"next_page": "http://[::"},
        {"next_page": "https://api.calendly.com/x?page_token=" + "t" * (MAX_TOKEN + 1)},
        {"next_page_token": "t" * 100_000},
    ],
)
async def test_a_next_page_that_cannot_be_read_is_an_error_of_calendly(pagination: dict[str, str]) -> None:
    """An address that is none, and a token too long for one, fail as what they are; a token at the limit is asked."""
    page = ScriptedAnswer(200, {"collection": [], "pagination": pagination})
    async with scripted_calendly(page) as (server, client):
        with pytest.raises(CalendlyError, match="next page that cannot be read") as caught:
            _ = [item async for item in webhook_subscriptions.of_organization(client, ORGANIZATION)]
    assert (caught.value.problem, len(server.seen)) == (CalendlyProblem.UNEXPECTED, 1)


async def test_a_page_s_token_at_the_limit_is_asked_for() -> None:
    """The longest token goes into the next call as it came."""
    pages = [ScriptedAnswer(200, {"collection": [], "pagination": {"next_page_token": "t" * MAX_TOKEN}})]
    last = ScriptedAnswer(200, {"collection": [SUBSCRIPTION], "pagination": {}})
    async with scripted_calendly(*pages, last) as (server, client):
        assert len([item async for item in webhook_subscriptions.of_organization(client, ORGANIZATION)]) == 1
    assert server.seen[-1].query["page_token"] == "t" * MAX_TOKEN


async def test_deleting_what_is_gone_is_done() -> None:
    """A 404 of Calendly's own on DELETE counts as deleted; another server's does not."""
    gone = error_answer(404, "Resource Not Found", "The server could not find the requested resource.")
    async with scripted_calendly(gone) as (server, client):
        await webhook_subscriptions.delete(client, URI)
    assert [(request.method, request.path) for request in server.seen] == [("DELETE", "/webhook_subscriptions/SUB")]
    async with scripted_calendly(ScriptedAnswer(404, "<html/>", html=True)) as (_, client):
        with pytest.raises(CalendlyError):
            await webhook_subscriptions.delete(client, URI)


async def test_the_longest_answer_and_one_past_it() -> None:
    """An answer of MAX_ANSWER_BYTES is read; one octet more is refused."""
    body = json.dumps({"resource": {**SUBSCRIPTION, "padding": ""}})
    longest = body.replace('"padding": ""', f'"padding": "{"x" * (MAX_ANSWER_BYTES - len(body))}"')
    for text, accepted in ((longest, True), (longest + " ", False)):
        async with scripted_calendly(ScriptedAnswer(200, text, html=True)) as (_, client):
            if accepted:
                assert (await webhook_subscriptions.get(client, URI)).uri == URI
            else:
                with pytest.raises(CalendlyError, match="longer than"):
                    await webhook_subscriptions.get(client, URI)


async def test_no_answer_is_told_without_the_address() -> None:
    """A closed port is `unreachable`, with the exception's kind and nothing of its text."""
    settings = CalendlySettings(api_url="http://127.0.0.1:9")
    async with connected(settings, SecretStr(TOKEN), retries=CallRetries(attempts=1)) as client:
        with pytest.raises(CalendlyError) as caught:
            await create(client)
    assert (caught.value.problem, caught.value.status) == (CalendlyProblem.UNREACHABLE, None)
    assert "127.0.0.1" not in caught.value.message


async def test_an_answer_that_never_ends_is_given_up() -> None:
    """A server that accepts and stays silent costs one attempt's time, no more."""
    released = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        settings = CalendlySettings(api_url=f"http://127.0.0.1:{port}")
        brief = CallRetries(attempts=1, answer_seconds=0.05)
        async with connected(settings, SecretStr(TOKEN), retries=brief) as client:
            with pytest.raises(CalendlyError) as caught:
                await users.me(client)
        assert caught.value.problem is CalendlyProblem.UNREACHABLE
    finally:
        released.set()
        server.close()
        await server.wait_closed()


async def test_the_token_has_no_text_form() -> None:
    """The client's text form does not hold the token."""
    async with scripted_calendly(ScriptedAnswer(204)) as (_, client):
        assert TOKEN not in repr(client)
        assert TOKEN not in repr(vars(client))
