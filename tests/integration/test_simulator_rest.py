"""The simulator's REST answers: bodies, error shapes, filters, pages and limits as the facts give them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from slotwire.ingest.simulator.app import Options
from tests.support.simulated_calendly import SimulatedCalendly, simulated_calendly

API = "https://api.calendly.com"
HOOK = "http://127.0.0.1:9/hook"


@pytest.fixture
async def calendly() -> AsyncIterator[SimulatedCalendly]:
    """A simulator with two organizations and a stopped clock."""
    async with simulated_calendly(Options(organizations=2)) as found:
        yield found


def _member(calendly: SimulatedCalendly, place: int, organization: int = 0) -> tuple[str, dict[str, str]]:
    """Return a member's URI and their headers: place 0 is the owner, 3 a plain user."""
    world = calendly.running.world
    user = world.members(list(world.organizations)[organization])[place]
    token = next(each for each in world.tokens if each.user == user.id)
    return f"{API}/users/{user.id}", {"Authorization": f"Bearer {token.value}"}


async def _scoped(calendly: SimulatedCalendly, *scopes: str) -> dict[str, str]:
    user = calendly.running.world.tokens[0].user
    answer = await calendly.http.post("/simulator/tokens", json={"user": user, "scopes": scopes})
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def _hook(calendly: SimulatedCalendly, **more: object) -> dict[str, Any]:
    body = {"url": HOOK, "events": ["invitee.created"], "organization": calendly.running.organization}
    return {**body, "scope": "organization", **more}


async def test_me_is_the_tokens_user_in_their_organization(calendly: SimulatedCalendly) -> None:
    """`/users/me` gives what connecting needs: the user's and the organization's URI."""
    me = (await calendly.http.get("/users/me")).json()["resource"]
    assert me["current_organization"] == calendly.running.organization
    ident = me["uri"].rsplit("/", 1)[-1]
    assert (await calendly.http.get(f"/users/{ident}")).json()["resource"] == me
    found = (await calendly.http.get(f"/organizations/{calendly.running.world.users[ident].organization}")).json()
    assert found["resource"]["uri"] == me["current_organization"]


@pytest.mark.parametrize("head", [{}, {"Authorization": "Bearer nobody"}, {"Authorization": "Basic eA=="}])
async def test_unknown_tokens_are_401(calendly: SimulatedCalendly, head: dict[str, str]) -> None:
    """No token, an unknown one and another scheme get one 401, with rate-limit headers."""
    async with httpx.AsyncClient(base_url=calendly.running.url, timeout=60) as stranger:
        answer = await stranger.get("/users/me", headers=head)
    assert answer.status_code == 401
    assert answer.json() == {"title": "Unauthenticated", "message": "The access token is invalid"}
    assert answer.headers["X-RateLimit-Limit"] == "500"


@pytest.mark.parametrize(("state", "message"), [("revoked", "was revoked"), ("expired", "expired")])
async def test_a_revoked_token_says_so(calendly: SimulatedCalendly, state: str, message: str) -> None:
    """Revoked and expired tokens have different messages, and can be made valid again."""
    token = calendly.running.owner_token
    await calendly.act("tokens/state", token=token, state=state)
    answer = await calendly.http.get("/users/me")
    assert (answer.status_code, answer.json()["message"]) == (401, f"The access token {message}")
    await calendly.act("tokens/state", token=token, state="valid")
    assert (await calendly.http.get("/users/me")).status_code == 200


async def test_missing_scope_is_403_with_required_scopes(calendly: SimulatedCalendly) -> None:
    """For a token without the call's scope the answer names that scope; `:write` includes `:read`."""
    answer = await calendly.http.get("/users/me", headers=await _scoped(calendly, "webhooks:write"))
    assert answer.status_code == 403
    assert answer.json()["required_scopes"] == ["users:read"]
    assert "'required_scopes'" in answer.json()["message"]
    head = await _scoped(calendly, "webhooks:write", "scheduled_events:read")
    listing = await calendly.http.get(
        "/webhook_subscriptions",
        params={"organization": calendly.running.organization, "scope": "organization"},
        headers=head,
    )
    assert listing.status_code == 200


async def test_rate_limit_answers_429_past_it_and_opens_after_a_minute(calendly: SimulatedCalendly) -> None:
    """The limit's request passes, the next is 429, another user is untouched, a minute later all is well."""
    await calendly.act("faults", rate_limit=3)
    answers = [await calendly.http.get("/users/me") for _ in range(3)]
    left = [(each.status_code, each.headers["X-RateLimit-Remaining"]) for each in answers]
    assert left == [(200, "2"), (200, "1"), (200, "0")]
    refused = await calendly.http.get("/users/me")
    assert (refused.status_code, refused.headers["X-RateLimit-Reset"]) == (429, "60")
    assert refused.json()["title"] == "Too Many Requests"
    _, other = _member(calendly, 1)
    assert (await calendly.http.get("/users/me", headers=other)).status_code == 200
    await calendly.advance(seconds=60)
    assert (await calendly.http.get("/users/me")).status_code == 200


async def test_subscription_lives_from_201_to_404(calendly: SimulatedCalendly) -> None:
    """Create, read, list, delete; the signing key is in no answer."""
    made = await calendly.http.post("/webhook_subscriptions", json=_hook(calendly, signing_key="only-we-know"))
    assert made.status_code == 201
    resource = made.json()["resource"]
    assert set(resource) == {
        *("uri", "callback_url", "created_at", "updated_at", "retry_started_at", "state", "events"),
        *("scope", "organization", "user", "group", "creator"),
    }
    assert (resource["state"], resource["retry_started_at"], resource["user"]) == ("active", None, None)
    assert resource["creator"] == _member(calendly, 0)[0]
    path = resource["uri"].removeprefix(API)
    assert (await calendly.http.get(path)).json()["resource"] == resource
    query = {"organization": calendly.running.organization, "scope": "organization"}
    listing = (await calendly.http.get("/webhook_subscriptions", params=query)).json()
    assert listing["collection"] == [resource]
    assert listing["pagination"]["next_page"] is None
    for answer in (made.text, str(listing)):
        assert "only-we-know" not in answer
    assert (await calendly.http.delete(path)).status_code == 204
    gone = await calendly.http.get(path)
    assert gone.status_code == 404
    assert gone.json() == {
        "title": "Resource Not Found",
        "message": "The server could not find the requested resource.",
    }


async def test_an_address_can_be_subscribed_once_by_a_user(calendly: SimulatedCalendly) -> None:
    """The same URL a second time is 409 for the same user of the same organization, and for nobody else."""
    await calendly.subscribe(HOOK)
    again = await calendly.http.post("/webhook_subscriptions", json=_hook(calendly))
    assert again.status_code == 409
    assert again.json() == {"title": "Already Exists", "message": "Hook with this url already exists"}
    owner, _ = _member(calendly, 0)
    own = await calendly.http.post("/webhook_subscriptions", json=_hook(calendly, scope="user", user=owner))
    assert own.status_code == 409
    _, admin = _member(calendly, 1)
    assert (await calendly.http.post("/webhook_subscriptions", json=_hook(calendly), headers=admin)).status_code == 201
    _, other = _member(calendly, 0, organization=1)
    theirs = f"{API}/organizations/{list(calendly.running.world.organizations)[1]}"
    body = _hook(calendly, organization=theirs)
    assert (await calendly.http.post("/webhook_subscriptions", json=body, headers=other)).status_code == 201


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"url": None}, "url"),
        ({"url": "ftp://127.0.0.1/"}, "url"),
        ({"url": 7}, "url"),
        ({"events": []}, "events"),
        ({"events": "invitee.created"}, "events"),
        ({"events": ["invitee.rescheduled"]}, "events"),
        ({"events": [1]}, "events"),
        ({"events": ["meeting_recap.created"]}, "events"),
        ({"scope": "galaxy"}, "scope"),
        ({"scope": "user"}, "user"),
        ({"scope": "user", "user": f"{API}/users/NOBODY"}, "user"),
        ({"scope": "group"}, "group"),
        ({"organization": "https://example.com/organizations/X"}, "organization"),
        ({"signing_key": 5}, "signing_key"),
    ],
)
async def test_wrong_subscriptions_are_400_with_details(
    calendly: SimulatedCalendly, change: dict[str, object], parameter: str
) -> None:
    """Each wrong parameter is named in `details`."""
    answer = await calendly.http.post("/webhook_subscriptions", json=_hook(calendly, **change))
    assert answer.status_code == 400
    body = answer.json()
    assert (body["title"], body["message"]) == ("Invalid Argument", "The supplied parameters are invalid.")
    assert parameter in [each["parameter"] for each in body["details"]]
    assert all(each["message"] for each in body["details"])


async def test_routing_forms_are_for_organizations_only(calendly: SimulatedCalendly) -> None:
    """An event with narrower scopes than its neighbours makes the whole subscription 400."""
    user, _ = _member(calendly, 0)
    body = _hook(calendly, scope="user", user=user, events=["invitee.created", "routing_form_submission.created"])
    assert (await calendly.http.post("/webhook_subscriptions", json=body)).status_code == 400


async def test_a_missing_read_scope_is_400(calendly: SimulatedCalendly) -> None:
    """Without the event family's read scope Calendly answers 400, not 403."""
    head = await _scoped(calendly, "webhooks:write", "routing_forms:read")
    refused = await calendly.http.post("/webhook_subscriptions", json=_hook(calendly), headers=head)
    assert refused.status_code == 400
    assert "scheduled_events:read" in refused.json()["details"][0]["message"]
    body = _hook(calendly, events=["routing_form_submission.created"])
    assert (await calendly.http.post("/webhook_subscriptions", json=body, headers=head)).status_code == 201


async def test_plain_members_subscribe_only_for_themselves(calendly: SimulatedCalendly) -> None:
    """Organization scope needs an owner or admin; a user may subscribe to their own events."""
    user, head = _member(calendly, 3)
    refused = await calendly.http.post("/webhook_subscriptions", json=_hook(calendly), headers=head)
    assert (refused.status_code, refused.json()["title"]) == (403, "Permission Denied")
    own = _hook(calendly, scope="user", user=user)
    assert (await calendly.http.post("/webhook_subscriptions", json=own, headers=head)).status_code == 201
    _, admin = _member(calendly, 1)
    admins = _hook(calendly, url=f"{HOOK}/2")
    assert (await calendly.http.post("/webhook_subscriptions", json=admins, headers=admin)).status_code == 201


async def test_one_organization_never_sees_another(calendly: SimulatedCalendly) -> None:
    """The second organization's owner gets 403 or 404 for everything of the first."""
    ident = await calendly.subscribe(HOOK)
    event = (await calendly.act("book"))["event"].removeprefix(API)
    _, other = _member(calendly, 0, organization=1)
    query = {"organization": calendly.running.organization}
    for path, params, status in (
        (f"/webhook_subscriptions/{ident}", {}, 404),
        ("/webhook_subscriptions", {**query, "scope": "organization"}, 403),
        ("/scheduled_events", query, 403),
        (event, {}, 404),
        (f"{event}/invitees", {}, 404),
        (calendly.running.organization.removeprefix(API), {}, 403),
    ):
        answer = await calendly.http.get(path, params=params, headers=other)
        assert (path, answer.status_code) == (path, status)


async def test_scheduled_events_are_filtered(calendly: SimulatedCalendly) -> None:
    """By host, group, address, status and start time, alone and together."""
    starts = ["2026-12-01T10:00:00Z", "2026-12-02T10:00:00Z", "2026-12-03T10:00:00Z"]
    booked = [await calendly.act("book", start=start, email=f"i{day}@example.com") for day, start in enumerate(starts)]
    await calendly.act("cancel", invitee=booked[1]["invitees"][0])
    uris = [each["event"] for each in booked]
    query = {"organization": calendly.running.organization}

    async def listed(**more: str) -> list[str]:
        answer = await calendly.http.get("/scheduled_events", params={**query, **more})
        assert answer.status_code == 200, answer.text
        return [each["uri"] for each in answer.json()["collection"]]

    assert await listed() == uris
    assert await listed(sort="start_time:desc") == uris[::-1]
    assert await listed(status="active") == [uris[0], uris[2]]
    assert await listed(status="canceled") == [uris[1]]
    assert await listed(invitee_email="i2@example.com") == [uris[2]]
    assert await listed(min_start_time=starts[1], max_start_time=starts[1]) == [uris[1]]
    assert await listed(min_start_time="2026-12-01T10:00:00.000001Z") == uris[1:]
    hosts = [(await calendly.http.get(uri.removeprefix(API))).json()["resource"] for uri in uris]
    host = hosts[0]["event_memberships"][0]["user"]
    mine = [each["uri"] for each in hosts if each["event_memberships"][0]["user"] == host]
    assert await listed(user=host) == mine


async def test_events_of_others_need_the_organization(calendly: SimulatedCalendly) -> None:
    """`user` alone works only for oneself; the 403 says what to add."""
    other, _ = _member(calendly, 2)
    me, _ = _member(calendly, 0)
    assert (await calendly.http.get("/scheduled_events", params={"user": me})).status_code == 200
    answer = await calendly.http.get("/scheduled_events", params={"user": other})
    assert answer.status_code == 403
    assert answer.json()["message"].startswith("Please also specify organization")
    _, plain = _member(calendly, 3)
    query = {"organization": calendly.running.organization}
    assert (await calendly.http.get("/scheduled_events", params=query, headers=plain)).status_code == 403


async def test_pages_cover_everything_once_in_both_directions(calendly: SimulatedCalendly) -> None:
    """Following tokens forward and links back meets each event once, equal start times included."""
    for number in range(7):
        await calendly.act("book", start=f"2026-12-0{1 + number // 3}T10:00:00Z")
    query = {"organization": calendly.running.organization, "count": "3"}
    pages = [(await calendly.http.get("/scheduled_events", params=query)).json()]
    while token := pages[-1]["pagination"]["next_page_token"]:
        answer = await calendly.http.get("/scheduled_events", params={**query, "page_token": token})
        pages.append(answer.json())
    assert [len(page["collection"]) for page in pages] == [3, 3, 1]
    assert len({each["uri"] for page in pages for each in page["collection"]}) == 7
    back = (await calendly.http.get(pages[2]["pagination"]["previous_page"])).json()
    assert back["collection"] == pages[1]["collection"]
    first = (await calendly.http.get(back["pagination"]["previous_page"])).json()
    assert first["collection"] == pages[0]["collection"]
    assert first["pagination"]["previous_page"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", "0"), ("count", "101"), ("count", "x"), ("page_token", "!"), ("page_token", "e30="), ("sort", "x:asc")],
)
async def test_wrong_pages_are_400(calendly: SimulatedCalendly, name: str, value: str) -> None:
    """Counts outside 1 to 100, foreign tokens and unknown sorts are refused; the limit itself passes."""
    base = {"organization": calendly.running.organization}
    assert (await calendly.http.get("/scheduled_events", params={**base, name: value})).status_code == 400
    assert (await calendly.http.get("/scheduled_events", params={**base, "count": "100"})).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"), [("min_start_time", "today"), ("max_start_time", "2026-01-01T00:00:00"), ("status", "x")]
)
async def test_wrong_filters_are_400(calendly: SimulatedCalendly, name: str, value: str) -> None:
    """Times without an offset and unknown statuses are refused by name."""
    query = {"organization": calendly.running.organization, name: value}
    answer = await calendly.http.get("/scheduled_events", params=query)
    assert answer.status_code == 400
    assert answer.json()["details"][0]["parameter"] == name


async def test_host_cancels_once(calendly: SimulatedCalendly) -> None:
    """201 for host or owner, then 403, for others 403 at once; every invitee is canceled; a past event cannot be."""
    booked = await calendly.act("book", places=2)
    path = booked["event"].removeprefix(API) + "/cancellation"
    _, plain = _member(calendly, 3)
    refused = await calendly.http.post(path, json={}, headers=plain)
    assert (refused.status_code, refused.json()["message"]) == (403, "You are not allowed to cancel this event")
    done = await calendly.http.post(path, json={"reason": "ill"})
    assert (done.status_code, done.json()["resource"]["canceler_type"]) == (201, "host")
    again = await calendly.http.post(path, json={})
    assert (again.status_code, again.json()["message"]) == (403, "Event is already canceled")
    invitees = (await calendly.http.get(booked["event"].removeprefix(API) + "/invitees")).json()["collection"]
    assert {each["status"] for each in invitees} == {"canceled"}
    assert [each["uri"] for each in invitees] == booked["invitees"]
    past = await calendly.act("book", start="2026-11-01T10:00:00Z")
    late = await calendly.http.post(past["event"].removeprefix(API) + "/cancellation", json={})
    assert (late.status_code, late.json()["message"]) == (403, "Event in the past")


@pytest.mark.parametrize(("length", "status"), [(10_000, 201), (10_001, 400)])
async def test_a_reason_has_a_limit(calendly: SimulatedCalendly, length: int, status: int) -> None:
    """10,000 characters pass, one more does not."""
    booked = await calendly.act("book")
    path = booked["event"].removeprefix(API) + "/cancellation"
    assert (await calendly.http.post(path, json={"reason": "x" * length})).status_code == status


async def test_no_show_is_made_read_and_deleted(calendly: SimulatedCalendly) -> None:
    """A mark has its own URI, shows on the invitee, can be set once and is gone after DELETE."""
    (invitee,) = (await calendly.act("book"))["invitees"]
    made = await calendly.http.post("/invitee_no_shows", json={"invitee": invitee})
    assert made.status_code == 201
    mark = made.json()["resource"]
    assert (mark["invitee"], set(mark)) == (invitee, {"uri", "invitee", "created_at"})
    path = mark["uri"].removeprefix(API)
    assert (await calendly.http.get(path)).json()["resource"] == mark
    assert (await calendly.http.get(invitee.removeprefix(API))).json()["resource"]["no_show"]["uri"] == mark["uri"]
    assert (await calendly.http.post("/invitee_no_shows", json={"invitee": invitee})).status_code == 409
    assert (await calendly.http.delete(path)).status_code == 204
    assert (await calendly.http.delete(path)).status_code == 404
    assert (await calendly.http.get(invitee.removeprefix(API))).json()["resource"]["no_show"] is None
    assert (await calendly.http.post("/invitee_no_shows", json={"invitee": "somebody"})).status_code == 400


async def test_submissions_are_listed_by_form(calendly: SimulatedCalendly) -> None:
    """A submission can be read alone and in its form's list."""
    made = await calendly.act("routing-form")
    path = made["submission"].removeprefix(API)
    resource = (await calendly.http.get(path)).json()["resource"]
    assert resource["uri"] == made["submission"]
    listing = await calendly.http.get("/routing_form_submissions", params={"form": resource["routing_form"]})
    assert listing.json()["collection"] == [resource]
    assert (await calendly.http.get("/routing_form_submissions")).status_code == 400


async def test_memberships_and_event_types_are_listed(calendly: SimulatedCalendly) -> None:
    """Memberships, event types, forms and groups of the organization, with their filters."""
    query = {"organization": calendly.running.organization}
    members = (await calendly.http.get("/organization_memberships", params=query)).json()["collection"]
    assert [each["role"] for each in members] == ["owner", "admin", "user", "user"]
    admins = (await calendly.http.get("/organization_memberships", params={**query, "role": "admin"})).json()
    assert admins["collection"] == [members[1]]
    for path, count in (("/event_types", 15), ("/routing_forms", 1), ("/groups", 1)):
        answer = (await calendly.http.get(path, params=query)).json()
        assert len(answer["collection"]) == count
        one = await calendly.http.get(answer["collection"][0]["uri"].removeprefix(API))
        assert one.json()["resource"] == answer["collection"][0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/scheduled_events/none", 404), ("PUT", "/users/me", 405)],
)
async def test_other_paths_answer_in_json(calendly: SimulatedCalendly, method: str, path: str, status: int) -> None:
    """Unknown paths and resources are 404 and a wrong method 405, all in Calendly's error shape."""
    answer = await calendly.http.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"title", "message"}
