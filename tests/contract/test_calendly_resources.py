"""What the client asks Calendly for and what it keeps of the answers, resource by resource, with given answers.

The bodies are those of docs/reference/calendly.md, "REST" and "Payloads".
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from slotwire.ingest.control.calendly_client import (
    invitee_no_shows,
    invitees,
    organization_memberships,
    organizations,
    routing_form_submissions,
    routing_forms,
    scheduled_events,
    webhook_subscriptions,
)
from slotwire.ingest.control.calendly_client.answers import MAX_SCOPES
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.catalogue import Scope
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.schemas.ids import OrganizationUri
from tests.support.scripted_calendly import QUICK, ScriptedAnswer, error_answer, scripted_calendly

T = TypeVar("T")
API = "https://api.calendly.com"
ORGANIZATION = OrganizationUri(f"{API}/organizations/ORG")
USER, GROUP, FORM = f"{API}/users/U", f"{API}/groups/G", f"{API}/routing_forms/F"
EVENT_URI = f"{API}/scheduled_events/E"
INVITEE_URI = f"{EVENT_URI}/invitees/I"
MARK_URI, SUBMISSION_URI = f"{API}/invitee_no_shows/N", f"{API}/routing_form_submissions/S"
EVENT: dict[str, Any] = {
    "uri": EVENT_URI,
    "status": "active",
    "start_time": "2026-12-01T10:00:00.000000Z",
    "end_time": "2026-12-01T10:30:00Z",
    "name": None,
    "location": {"type": "zoom", "data": {"id": 98_765_432_101_234_567_890_123}},
    "of_tomorrow": {"a": [1, 2.5, None]},
}
INVITEE: dict[str, Any] = {
    "uri": INVITEE_URI,
    "event": EVENT_URI,
    "status": "active",
    "email": "ada@example.com",
    "name": "Ada Example",
    "cancel_url": "https://calendly.com/cancellations/I",
    "no_show": None,
    "raw": "a field of Calendly's own",
}
SUBMISSION: dict[str, Any] = {"uri": SUBMISSION_URI, "routing_form": FORM, "submitter": None}
MARK: dict[str, Any] = {"uri": MARK_URI, "invitee": INVITEE_URI, "created_at": "2026-12-01T11:00:00.123456Z"}
MEMBERSHIP: dict[str, Any] = {
    "uri": f"{API}/organization_memberships/M",
    "role": "admin",
    "user": {"uri": USER, "name": "Ada Example", "email": "ada@example.com"},
    "organization": ORGANIZATION,
}


def one(resource: object, status: int = 200) -> ScriptedAnswer:
    """Make an answer with one resource."""
    return ScriptedAnswer(status, {"resource": resource})


def several(*resources: object) -> ScriptedAnswer:
    """Make a list's only page."""
    return ScriptedAnswer(200, {"collection": resources, "pagination": {"count": len(resources), "next_page": None}})


async def all_of(items: AsyncIterator[T]) -> list[T]:
    """Read a list to its end."""
    return [item async for item in items]


READS: dict[str, tuple[Callable[[CalendlyTransport], Awaitable[Any]], ScriptedAnswer, str]] = {
    "organization": (lambda c: organizations.get(c, ORGANIZATION), one({"uri": ORGANIZATION}), "/organizations/ORG"),
    "event": (lambda c: scheduled_events.get(c, EVENT_URI), one(EVENT), "/scheduled_events/E"),
    "invitee": (lambda c: invitees.get(c, INVITEE_URI), one(INVITEE), "/scheduled_events/E/invitees/I"),
    "mark": (lambda c: invitee_no_shows.get(c, MARK_URI), one(MARK), "/invitee_no_shows/N"),
    "form": (lambda c: routing_forms.get(c, FORM), one({"uri": FORM}), "/routing_forms/F"),
    "submission": (
        lambda c: routing_form_submissions.get(c, SUBMISSION_URI),
        one(SUBMISSION),
        "/routing_form_submissions/S",
    ),
    "members": (
        lambda c: all_of(organization_memberships.every(c, organization=ORGANIZATION, user=USER)),
        several(MEMBERSHIP),
        f"/organization_memberships?organization={ORGANIZATION}&user={USER}&count=100",
    ),
    "forms": (
        lambda c: all_of(routing_forms.every(c, ORGANIZATION)),
        several({"uri": FORM}),
        f"/routing_forms?organization={ORGANIZATION}&count=100",
    ),
    "submissions": (
        lambda c: all_of(routing_form_submissions.every(c, FORM)),
        several(SUBMISSION),
        f"/routing_form_submissions?form={FORM}&sort=created_at:asc&count=100",
    ),
    "newest submissions": (
        lambda c: all_of(routing_form_submissions.every(c, FORM, latest_first=True)),
        several(SUBMISSION),
        f"/routing_form_submissions?form={FORM}&sort=created_at:desc&count=100",
    ),
    "invitees": (
        lambda c: all_of(invitees.every(c, EVENT_URI)),
        several(INVITEE),
        "/scheduled_events/E/invitees?sort=created_at:asc&count=100",
    ),
    "canceled invitees": (
        lambda c: all_of(invitees.every(c, EVENT_URI, status="canceled")),
        several(INVITEE),
        "/scheduled_events/E/invitees?status=canceled&sort=created_at:asc&count=100",
    ),
    "events": (
        lambda c: all_of(scheduled_events.every(c, scheduled_events.ScheduledEventQuery(organization=ORGANIZATION))),
        several(EVENT),
        f"/scheduled_events?organization={ORGANIZATION}&sort=start_time:asc&count=100",
    ),
    "some events": (
        lambda c: all_of(
            scheduled_events.every(
                c,
                scheduled_events.ScheduledEventQuery(
                    organization=ORGANIZATION,
                    user=USER,
                    group=GROUP,
                    status="active",
                    start_from=datetime(2026, 12, 1, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2))),
                    start_to=datetime(2027, 1, 1, tzinfo=UTC),
                    latest_first=True,
                ),
            )
        ),
        several(EVENT),
        (
            f"/scheduled_events?organization={ORGANIZATION}&user={USER}&group={GROUP}&status=active"
            "&min_start_time=2026-11-30T23:02:03.000004Z&max_start_time=2027-01-01T00:00:00.000000Z"
            "&sort=start_time:desc&count=100"
        ),
    ),
    "subscriptions of a user": (
        lambda c: all_of(webhook_subscriptions.every(c, ORGANIZATION, "user", USER)),
        several(),
        f"/webhook_subscriptions?organization={ORGANIZATION}&scope=user&user={USER}&count=100",
    ),
    "subscriptions of a group": (
        lambda c: all_of(webhook_subscriptions.every(c, ORGANIZATION, "group", GROUP)),
        several(),
        f"/webhook_subscriptions?organization={ORGANIZATION}&scope=group&group={GROUP}&count=100",
    ),
}


@pytest.mark.parametrize("name", READS)
async def test_what_is_read_is_asked_for_as_documented(name: str) -> None:
    """Each read is one GET with Calendly's own parameters; what is not wanted is not in the query."""
    read, answer, path = READS[name]
    async with scripted_calendly(answer) as (server, client):
        await read(client)
    [request] = server.seen
    assert (request.method, unquote(request.path_qs)) == ("GET", path)


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (error_answer(401, "Unauthenticated", "The access token was revoked"), CalendlyProblem.CREDENTIAL),
        (error_answer(403, "x", "…", required_scopes=["a:read"]), CalendlyProblem.SCOPE),
        (error_answer(404, "Resource Not Found", "…"), CalendlyProblem.NOT_FOUND),
        (ScriptedAnswer(429, {}, {"X-RateLimit-Reset": "30"}), CalendlyProblem.LIMITED),
        (ScriptedAnswer(503, "<html/>", html=True), CalendlyProblem.UPSTREAM),
        (ScriptedAnswer(200, {"resource": {}, "collection": [{}]}), CalendlyProblem.UNEXPECTED),
    ],
    ids=lambda item: item.value if isinstance(item, CalendlyProblem) else "",
)
async def test_every_read_fails_alike(name: str, answer: ScriptedAnswer, problem: CalendlyProblem) -> None:
    """Whatever is read, a no of Calendly's is the same error of ours, and only a failing Calendly is asked again."""
    async with scripted_calendly(answer) as (server, client):
        with pytest.raises(CalendlyError) as caught:
            await READS[name][0](client)
    assert caught.value.problem is problem
    assert len(server.seen) == (QUICK.attempts if problem is CalendlyProblem.UPSTREAM else 1)


async def test_bookings_are_kept_whole() -> None:
    """Beside the typed fields stands everything that was told, in its own form: big numbers, nulls, new fields."""
    async with scripted_calendly(one(EVENT), several(INVITEE), one(SUBMISSION), one(MARK)) as (_, client):
        event = await scheduled_events.get(client, EVENT_URI)
        [invitee] = await all_of(invitees.every(client, EVENT_URI))
        submission = await routing_form_submissions.get(client, SUBMISSION_URI)
        mark = await invitee_no_shows.get(client, MARK_URI)
    assert [event.raw, invitee.raw, submission.raw, mark.raw] == [EVENT, INVITEE, SUBMISSION, MARK]
    assert event.start_time == datetime(2026, 12, 1, 10, tzinfo=UTC)
    assert (invitee.event, invitee.no_show, submission.routing_form) == (EVENT_URI, None, FORM)
    assert (mark.invitee, mark.created_at) == (INVITEE_URI, datetime(2026, 12, 1, 11, 0, 0, 123456, UTC))


async def test_people_have_no_text_form() -> None:
    """Names, mail addresses and links that cancel are in no text form of what was read, nor in an error about it."""
    async with scripted_calendly(one(INVITEE), several(MEMBERSHIP), one({**INVITEE, "event": 5})) as (_, client):
        shown = repr(await invitees.get(client, INVITEE_URI))
        shown += repr(await all_of(organization_memberships.every(client, organization=ORGANIZATION)))
        with pytest.raises(CalendlyError) as caught:
            await invitees.get(client, INVITEE_URI)
    shown += f"{caught.value!r}{caught.value.message}{caught.value.remedy}"
    for secret in ("ada@example.com", "Ada Example", "cancellations"):
        assert secret not in shown
    assert "resource.event" in caught.value.message


async def test_a_role_is_of_this_user_in_this_organization() -> None:
    """The membership found is the one asked for; a list that heeds no filter gives nobody else's role."""
    stranger = {**MEMBERSHIP, "role": "owner", "user": {"uri": f"{API}/users/X"}}
    elsewhere = {**MEMBERSHIP, "role": "owner", "organization": f"{API}/organizations/OTHER"}
    async with scripted_calendly(several(stranger, elsewhere, MEMBERSHIP), several(stranger, elsewhere)) as (_, client):
        found = await organization_memberships.find(client, organization=ORGANIZATION, user=USER)
        missed = await organization_memberships.find(client, organization=ORGANIZATION, user=USER)
    assert found is not None
    assert (found.role, found.user.uri, found.administers) == ("admin", USER, True)
    assert missed is None


@pytest.mark.parametrize(
    ("role", "administers"), [("owner", True), ("admin", True), ("user", False), ("of_tomorrow", False)]
)
async def test_only_known_roles_administer(role: str, administers: bool) -> None:
    """Owners and admins administer; a role that Calendly may invent does not."""
    async with scripted_calendly(several({**MEMBERSHIP, "role": role})) as (_, client):
        found = await organization_memberships.find(client, organization=ORGANIZATION, user=USER)
    assert found is not None
    assert found.administers is administers


@pytest.mark.parametrize(("scope", "subject"), [("user", USER), ("group", GROUP)])
async def test_a_narrower_scope_names_its_subject(scope: Scope, subject: str) -> None:
    """A subscription of a user or group carries organization, scope and subject, and comes back with them."""
    told = {
        "uri": f"{API}/webhook_subscriptions/S",
        "callback_url": "https://hooks.example.com/1",
        "state": "active",
        "events": ["invitee.created"],
        "scope": scope,
        "organization": ORGANIZATION,
        "user": None,
        "group": None,
        scope: subject,
    }
    async with scripted_calendly(one(told, 201)) as (server, client):
        made = await webhook_subscriptions.create(
            client,
            organization=ORGANIZATION,
            url="https://hooks.example.com/1",
            events=("invitee.created",),
            signing_key=SecretStr("signing"),
            scope=scope,
            subject=subject,
        )
    sent = json.loads(server.bodies[0])
    assert (sent["organization"], sent["scope"], sent[scope]) == (ORGANIZATION, scope, subject)
    assert len({"user", "group"} & set(sent)) == 1
    assert (made.scope, made.subject, made.organization) == (scope, subject, ORGANIZATION)


@pytest.mark.parametrize(("scope", "subject"), [("user", ""), ("group", ""), ("organization", USER)])
async def test_a_scope_without_its_subject_asks_nobody(scope: Scope, subject: str) -> None:
    """Scope and subject that do not fit are refused before any call."""
    async with scripted_calendly(several()) as (server, client):
        with pytest.raises(ValueError, match="subject"):
            await all_of(webhook_subscriptions.every(client, ORGANIZATION, scope, subject))
    assert server.seen == []


async def test_a_no_show_is_set_once_and_cleared_twice() -> None:
    """Marking is one POST that is never repeated; clearing what is gone already is cleared."""
    async with scripted_calendly(ScriptedAnswer(502, "<html/>", html=True)) as (server, client):
        with pytest.raises(CalendlyError):
            await invitee_no_shows.create(client, INVITEE_URI)
    assert [request.method for request in server.seen] == ["POST"]
    async with scripted_calendly(one(MARK, 201), ScriptedAnswer(204), error_answer(404, "Resource Not Found", "…")) as (
        server,
        client,
    ):
        assert (await invitee_no_shows.create(client, INVITEE_URI)).uri == MARK_URI
        await invitee_no_shows.delete(client, MARK_URI)
        await invitee_no_shows.delete(client, MARK_URI)
    assert json.loads(server.bodies[0]) == {"invitee": INVITEE_URI}
    assert [request.path for request in server.seen[1:]] == ["/invitee_no_shows/N"] * 2


async def test_a_refusal_carries_the_scopes_it_names() -> None:
    """`required_scopes` is read, made plain and bounded; where Calendly names none it is empty."""
    many = [f"a{number}:read" for number in range(MAX_SCOPES + 1)]
    for named, carried in (
        (["webhooks:write", "users:read"], ("webhooks:write", "users:read")),
        ([], ()),
        (["line\nbreak ada@example.com"], ("line break …",)),
        (many[:-1], tuple(many[:-1])),
        (many, tuple(many[:-1])),
    ):
        async with scripted_calendly(error_answer(403, "Insufficient scope", "…", required_scopes=named)) as (
            _,
            client,
        ):
            with pytest.raises(CalendlyError) as caught:
                await organizations.get(client, ORGANIZATION)
        assert (caught.value.problem, caught.value.required_scopes) == (CalendlyProblem.SCOPE, carried)
        assert (carried[0] if carried else "does not name them") in caught.value.message
    async with scripted_calendly(error_answer(403, "Permission Denied", "You do not have permission")) as (_, client):
        with pytest.raises(CalendlyError) as caught:
            await organizations.get(client, ORGANIZATION)
    assert (caught.value.problem, caught.value.required_scopes) == (CalendlyProblem.PERMISSION, ())
