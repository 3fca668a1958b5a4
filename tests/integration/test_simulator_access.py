"""Tokens, roles and plans at the simulated Calendly, and its record of REST calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from slotwire.ingest.simulator.app import Options
from slotwire.ingest.simulator.calls import Owners, RestCall, RestCallLog
from slotwire.ingest.simulator.model import SimulatedUser
from slotwire.ingest.simulator.rates import DEFAULT_RATE_LIMIT, FREE_RATE_LIMIT
from slotwire.ingest.simulator.requests import MAX_PLAN
from tests.support.simulated_calendly import SimulatedCalendly, simulated_calendly

API = "https://api.calendly.com"
HOOK = "http://127.0.0.1:9/hook"
UPGRADE = "Please upgrade to a paid Calendly account."


@pytest.fixture
async def calendly() -> AsyncIterator[SimulatedCalendly]:
    """A simulator with two organizations and a stopped clock."""
    async with simulated_calendly(Options(organizations=2)) as found:
        yield found


def member(calendly: SimulatedCalendly, place: int, organization: int = 0) -> tuple[SimulatedUser, dict[str, str]]:
    """Return a member and their headers: place 0 is the owner, 1 an admin, 3 a plain user."""
    world = calendly.running.world
    user = world.members(list(world.organizations)[organization])[place]
    token = next(each for each in world.tokens if each.user == user.id)
    return user, {"Authorization": f"Bearer {token.value}"}


def organization(calendly: SimulatedCalendly, number: int) -> str:
    """Return an organization's URI."""
    return f"{API}/organizations/{list(calendly.running.world.organizations)[number]}"


def hook(calendly: SimulatedCalendly, **more: object) -> dict[str, Any]:
    """Return the body of a subscription."""
    body = {"url": HOOK, "events": ["invitee.created"], "organization": calendly.running.organization}
    return {**body, "scope": "organization", **more}


async def calls(calendly: SimulatedCalendly, **query: str) -> list[dict[str, Any]]:
    """Return the record of REST calls."""
    found: list[dict[str, Any]] = (await calendly.http.get("/simulator/calls", params=query)).json()["items"]
    return found


async def foreign_calls(calendly: SimulatedCalendly) -> int:
    """Return how many calls reached across organizations, as the control address says."""
    return int((await calendly.http.get("/simulator/calls/summary")).json()["foreign_calls"])


async def test_a_token_expires_by_the_simulators_clock(calendly: SimulatedCalendly) -> None:
    """A token made for a minute works until that minute is over; after that the answer says that it expired."""
    user, _ = member(calendly, 0)
    made = await calendly.act("tokens", user=user.id, scopes=["users:read"], expires_in_seconds=60)
    head = {"Authorization": f"Bearer {made['token']}"}
    await calendly.advance(seconds=59)
    assert (await calendly.http.get("/users/me", headers=head)).status_code == 200
    await calendly.advance(seconds=1)
    answer = await calendly.http.get("/users/me", headers=head)
    assert (answer.status_code, answer.json()["message"]) == (401, "The access token expired")


async def test_subscribing_without_its_scope_is_403(calendly: SimulatedCalendly) -> None:
    """Without `webhooks:write` the 403 lists it; `webhooks:read` is not enough to subscribe, but to list."""
    user, _ = member(calendly, 0)
    made = await calendly.act("tokens", user=user.id, scopes=["webhooks:read", "scheduled_events:read"])
    head = {"Authorization": f"Bearer {made['token']}"}
    refused = await calendly.http.post("/webhook_subscriptions", json=hook(calendly), headers=head)
    assert (refused.status_code, refused.json()["required_scopes"]) == (403, ["webhooks:write"])
    query = {"organization": calendly.running.organization, "scope": "organization"}
    assert (await calendly.http.get("/webhook_subscriptions", params=query, headers=head)).status_code == 200


@pytest.mark.parametrize(
    ("event", "scope", "status"),
    [
        ("invitee.created", "organization", 201),
        ("event_type.updated", "organization", 201),
        ("routing_form_submission.created", "organization", 403),
        ("contact.created", "organization", 201),
        ("meeting_recap.created", "user", 403),
    ],
)
async def test_a_free_plan_has_fewer_events(calendly: SimulatedCalendly, event: str, scope: str, status: int) -> None:
    """On the free plan bookings can be subscribed to, features it lacks are 403; once it pays, all of them can."""
    user, _ = member(calendly, 0)
    body = hook(calendly, events=[event], scope=scope, user=f"{API}/users/{user.id}")
    await calendly.act("organizations", organization=calendly.running.organization, plan="free")
    answer = await calendly.http.post("/webhook_subscriptions", json=body)
    assert answer.status_code == status
    if status == 403:
        assert answer.json() == {"title": "Permission Denied", "message": UPGRADE}
    await calendly.act("organizations", organization=calendly.running.organization, plan="professional")
    paid = await calendly.http.post("/webhook_subscriptions", json={**body, "url": f"{HOOK}/2"})
    assert paid.status_code == 201


async def test_a_plan_can_have_no_webhooks(calendly: SimulatedCalendly) -> None:
    """Where the plan has none, every subscription is 403 with the words of before November 2026."""
    await calendly.act("organizations", organization=calendly.running.organization, webhooks=False)
    answer = await calendly.http.post("/webhook_subscriptions", json=hook(calendly))
    assert (answer.status_code, answer.json()["message"]) == (403, "Please upgrade your Calendly account to Standard")


async def test_a_free_plan_has_a_tenth_of_the_rate(calendly: SimulatedCalendly) -> None:
    """The 50th request of a minute passes on Free, the 51st is 429; a paying organization has 500."""
    await calendly.act("organizations", organization=calendly.running.organization, plan="free")
    answers = [await calendly.http.get("/users/me") for _ in range(FREE_RATE_LIMIT + 1)]
    assert {each.status_code for each in answers[:-1]} == {200}
    assert (answers[-1].status_code, answers[-1].headers["X-RateLimit-Limit"]) == (429, str(FREE_RATE_LIMIT))
    _, other = member(calendly, 0, organization=1)
    paid = await calendly.http.get("/users/me", headers=other)
    assert (paid.status_code, paid.headers["X-RateLimit-Limit"]) == (200, str(DEFAULT_RATE_LIMIT))


async def test_a_sliding_minute_is_the_one_before_each_call(calendly: SimulatedCalendly) -> None:
    """By setting each call counts for 60 s; a fixed minute, begun by the first call, frees all at once."""
    await calendly.act("organizations", organization=calendly.running.organization, plan="free")
    for window, left in (("fixed", FREE_RATE_LIMIT - 1), ("sliding", FREE_RATE_LIMIT // 2 - 1)):
        await calendly.act("rates", window=window)
        for _ in range(2):
            for _ in range(FREE_RATE_LIMIT // 2):
                assert (await calendly.http.get("/users/me")).status_code == 200
            await calendly.act("clock", advance_seconds=31)
        answer = await calendly.http.get("/users/me")
        assert (answer.status_code, int(answer.headers["X-RateLimit-Remaining"])) == (200, left), window
        await calendly.act("clock", advance_seconds=120)


async def test_a_refusal_says_when_to_come_back_by_setting(calendly: SimulatedCalendly) -> None:
    """`Retry-After` comes or not; the reset is right, or another clock's, or 0. Others spend the same limit."""
    user, _ = member(calendly, 0)
    first = await calendly.http.get("/users/me")
    spent = await calendly.act("rates/spend", user=user.id, calls=DEFAULT_RATE_LIMIT - 1)
    assert (first.headers["X-RateLimit-Remaining"], spent["remaining"]) == (str(DEFAULT_RATE_LIMIT - 1), 0)
    await calendly.act("clock", advance_seconds=20)
    rules: list[tuple[dict[str, object], str, str | None]] = [
        ({}, "40", None),
        ({"reset_skew_seconds": 30}, "70", None),
        ({"reset_skew_seconds": -45, "retry_after": True}, "0", "0"),
        ({"reset_skew_seconds": 0}, "40", "40"),
        ({"reset_zero": True}, "0", "0"),
    ]
    for change, reset, retry in rules:
        rules_now = await calendly.act("rates", **change)
        assert rules_now.items() >= change.items()
        answer = await calendly.http.get("/users/me")
        found = answer.status_code, answer.headers["X-RateLimit-Reset"], answer.headers.get("Retry-After")
        assert found == (429, reset, retry)


async def test_other_programs_spend_evenly(calendly: SimulatedCalendly) -> None:
    """At 60 calls a minute of others, a minute later 60 are gone beside our own."""
    await calendly.act("rates", window="sliding", others_per_minute=60)
    await calendly.http.get("/users/me")
    await calendly.act("clock", advance_seconds=59)
    answer = await calendly.http.get("/users/me")
    assert int(answer.headers["X-RateLimit-Remaining"]) == DEFAULT_RATE_LIMIT - 2 - 59


async def test_a_role_decides_what_a_user_may_do(calendly: SimulatedCalendly) -> None:
    """An owner who becomes a plain user loses the organization's subscriptions, and gets them back with the role."""
    user, _ = member(calendly, 0)
    for role, status in (("user", 403), ("admin", 201)):
        await calendly.act("users", user=user.id, role=role)
        query = {"user": f"{API}/users/{user.id}"}
        [membership] = (await calendly.http.get("/organization_memberships", params=query)).json()["collection"]
        assert membership["role"] == role
        assert (await calendly.http.post("/webhook_subscriptions", json=hook(calendly))).status_code == status


async def test_the_token_of_a_moved_user_acts_in_the_new_organization(calendly: SimulatedCalendly) -> None:
    """After a move the same token says another organization, and reaches nothing of the old one."""
    user, _ = member(calendly, 0)
    subscription = await calendly.subscribe(HOOK)
    await calendly.act("users", user=user.id, organization=organization(calendly, 1))
    me = (await calendly.http.get("/users/me")).json()["resource"]
    assert me["current_organization"] == organization(calendly, 1)
    assert (await calendly.http.get(f"/webhook_subscriptions/{subscription}")).status_code == 404
    assert (await calendly.http.post("/webhook_subscriptions", json=hook(calendly))).status_code == 403


async def test_a_users_own_events_come_from_every_organization(calendly: SimulatedCalendly) -> None:
    """`user` alone also gives the events of an organization that was left; with `organization` it does not."""
    user, _ = member(calendly, 0)
    offers = calendly.running.world.event_types.values()
    offer = next(each for each in offers if each.owner == user.id and each.limit == 1)
    event = (await calendly.act("book", event_type=offer.id))["event"]
    await calendly.act("users", user=user.id, organization=organization(calendly, 1))
    own = {"user": f"{API}/users/{user.id}"}
    for query, found in ((own, [event]), ({**own, "organization": organization(calendly, 1)}, [])):
        listed = (await calendly.http.get("/scheduled_events", params=query)).json()["collection"]
        assert [each["uri"] for each in listed] == found


@pytest.mark.parametrize("scope", ["user", "group"])
async def test_scopes_stay_in_their_organization(calendly: SimulatedCalendly, scope: str) -> None:
    """A user or group of another organization can neither be subscribed to nor listed."""
    user, _ = member(calendly, 0, organization=1)
    groups = calendly.running.world.groups.values()
    group = next(each for each in groups if each.organization == user.organization)
    theirs = {"user": f"{API}/users/{user.id}", "group": f"{API}/groups/{group.id}"}[scope]
    refused = await calendly.http.post("/webhook_subscriptions", json=hook(calendly, scope=scope, **{scope: theirs}))
    assert (refused.status_code, refused.json()["details"][0]["parameter"]) == (400, scope)
    query = {"organization": calendly.running.organization, "scope": scope, scope: theirs}
    assert (await calendly.http.get("/webhook_subscriptions", params=query)).status_code == 403


async def test_members_of_others_are_not_shown(calendly: SimulatedCalendly) -> None:
    """Memberships and event types of another organization's user are 403."""
    user, _ = member(calendly, 0, organization=1)
    for path in ("/organization_memberships", "/event_types"):
        answer = await calendly.http.get(path, params={"user": f"{API}/users/{user.id}"})
        assert (path, answer.status_code) == (path, 403)


async def test_changes_survive_a_restart(tmp_path: Path) -> None:
    """Roles, plans and a token's end are as they were after the simulator starts again."""
    options = Options(state_file=tmp_path / "state.sqlite", organizations=2)
    async with simulated_calendly(options) as before:
        user, _ = member(before, 1)
        await before.act("users", user=user.id, role="user")
        await before.act("organizations", organization=before.running.organization, plan="free", webhooks=False)
        token = (await before.act("tokens", user=user.id, expires_in_seconds=0))["token"]
    async with simulated_calendly(options) as after:
        world = after.running.world
        assert world.users[user.id].role == "user"
        found = world.organizations[user.organization]
        assert (found.plan, found.webhooks) == ("free", False)
        answer = await after.http.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["message"] == "The access token expired"


async def test_every_call_is_recorded(calendly: SimulatedCalendly) -> None:
    """The record has each call's user, the organizations it names and its answer, but not the token."""
    user, _ = member(calendly, 0)
    await calendly.http.get("/users/me")
    await calendly.http.post("/webhook_subscriptions", json=hook(calendly))
    await calendly.http.post("/webhook_subscriptions", json=hook(calendly))
    await calendly.http.get("/users/me", headers={"Authorization": "Bearer nobody"})
    found = await calls(calendly)
    assert [(each["method"], each["path"], each["status"]) for each in found] == [
        ("GET", "/users/me", 200),
        ("POST", "/webhook_subscriptions", 201),
        ("POST", "/webhook_subscriptions", 409),
        ("GET", "/users/me", 401),
    ]
    assert [each["named_organizations"] for each in found] == [[], *([[calendly.running.organization]] * 2), []]
    assert [each["user"] for each in found] == [f"{API}/users/{user.id}"] * 3 + [None]
    assert calendly.running.owner_token not in str(found)
    summary = (await calendly.http.get("/simulator/calls/summary")).json()
    assert (summary["calls"], summary["unauthenticated"], summary["foreign_calls"]) == (4, 1, 0)
    assert summary["organizations"] == {calendly.running.organization: {"calls": 3, "tokens": [found[0]["token"]]}}


async def test_the_record_is_read_in_pages(calendly: SimulatedCalendly) -> None:
    """Following `next_cursor` gives each call once; users and organizations are filters."""
    _, other = member(calendly, 0, organization=1)
    for number in range(5):
        await calendly.http.get("/users/me", headers=other if number % 2 else {})
    first = (await calendly.http.get("/simulator/calls", params={"count": "3"})).json()
    second = await calls(calendly, count="3", after=str(first["next_cursor"]))
    assert [each["number"] for each in (*first["items"], *second)] == [1, 2, 3, 4, 5]
    assert [each["number"] for each in await calls(calendly, organization=organization(calendly, 1))] == [2, 4]
    for wrong in ({"count": "0"}, {"count": "1001"}, {"after": "x"}):
        assert (await calendly.http.get("/simulator/calls", params=wrong)).status_code == 400


async def test_a_call_is_foreign_by_its_path_query_or_body(calendly: SimulatedCalendly) -> None:
    """Another's organization in query or body and another's resource in the path each count, though refused."""
    ident = await calendly.subscribe(HOOK)
    booked = await calendly.act("book")
    [invitee] = booked["invitees"]
    mark = (await calendly.act("no-show", invitee=invitee))["no_show"]
    submission = (await calendly.act("routing-form"))["submission"]
    form = (await calendly.http.get(submission.removeprefix(API))).json()["resource"]["routing_form"]
    owner, _ = member(calendly, 0)
    assert await foreign_calls(calendly) == 0
    _, other = member(calendly, 0, organization=1)
    mine = {"organization": calendly.running.organization}
    reads: tuple[tuple[str, dict[str, str]], ...] = (
        (f"/webhook_subscriptions/{ident}", {}),
        ("/webhook_subscriptions", {**mine, "scope": "organization"}),
        ("/scheduled_events", mine),
        (booked["event"].removeprefix(API), {}),
        (f"{booked['event'].removeprefix(API)}/invitees", {}),
        (invitee.removeprefix(API), {}),
        (mark.removeprefix(API), {}),
        (submission.removeprefix(API), {}),
        ("/routing_form_submissions", {"form": form}),
        ("/routing_forms", mine),
        (calendly.running.organization.removeprefix(API), {}),
        (f"/users/{owner.id}", {}),
        ("/organization_memberships", {"user": f"{API}/users/{owner.id}"}),
        (f"/organization_memberships/{owner.membership}", {}),
    )
    for path, query in reads:
        answer = await calendly.http.get(path, params=query, headers=other)
        assert (path, answer.status_code) in {(path, 403), (path, 404)}
    await calendly.http.post("/webhook_subscriptions", json=hook(calendly), headers=other)
    await calendly.http.post("/invitee_no_shows", json={"invitee": invitee}, headers=other)
    assert await foreign_calls(calendly) == len(reads) + 2
    found = await calls(calendly, foreign="true")
    assert [each["path"] for each in found[:-2]] == [path for path, _ in reads]
    assert {each["organization"] for each in found} == {organization(calendly, 1)}


async def test_a_deleted_resource_still_has_its_owner(calendly: SimulatedCalendly) -> None:
    """Deleting another's subscription is foreign also after its owner deleted it."""
    path = f"/webhook_subscriptions/{await calendly.subscribe(HOOK)}"
    assert (await calendly.http.delete(path)).status_code == 204
    assert (await calendly.http.delete(path)).status_code == 404
    assert await foreign_calls(calendly) == 0
    _, other = member(calendly, 0, organization=1)
    assert (await calendly.http.delete(path, headers=other)).status_code == 404
    assert await foreign_calls(calendly) == 1


async def test_a_call_with_a_revoked_token_is_recorded_for_its_user(calendly: SimulatedCalendly) -> None:
    """A call with a revoked token that names another organization is foreign, though it is only a 401."""
    await calendly.act("tokens/state", token=calendly.running.owner_token, state="revoked")
    answer = await calendly.http.get(organization(calendly, 1).removeprefix(API))
    assert answer.status_code == 401
    assert await foreign_calls(calendly) == 1


async def test_the_record_has_a_limit(calendly: SimulatedCalendly) -> None:
    """At its limit nothing is lost; one past it the oldest call goes, while counts and foreign calls stay."""
    owner, _ = member(calendly, 0)
    for past in (0, 1):
        record = RestCallLog(limit=3)
        for number in range(1, 4 + past):
            named = ("elsewhere",) if number == 1 else ()
            at = calendly.running.engine.clock.now()
            record.add(RestCall(number, at, "t", owner.id, owner.organization, "GET", "/users/me", named, 200))
        listed = record.listing(0, 10, lambda _: True)
        assert [call.number for call in listed] == list(range(1 + past, 4 + past))
        assert [call.number for call in record.foreign()] == [1]
        assert (record.next_number(), record.foreign_count) == (4 + past, 1)


async def test_the_owners_of_deleted_resources_have_a_limit(calendly: SimulatedCalendly) -> None:
    """As many owners as the limit says are remembered past a deletion; one more and the oldest is forgotten."""
    paths = [f"/webhook_subscriptions/{await calendly.subscribe(f'{HOOK}/{number}')}" for number in range(2)]
    owner, _ = member(calendly, 0)
    engine = calendly.running.engine
    wide, narrow = Owners(engine, limit=2), Owners(engine, limit=1)
    for owners in (wide, narrow):
        assert [owners.named(path, iter(())) for path in paths] == [(owner.organization,)] * 2
    assert (await calendly.http.delete(paths[0])).status_code == 204
    assert wide.named(paths[0], iter(())) == (owner.organization,)
    assert narrow.named(paths[0], iter(())) == ()


@pytest.mark.parametrize(("length", "status"), [(MAX_PLAN, 200), (MAX_PLAN + 1, 400)])
async def test_a_plans_name_has_a_limit(calendly: SimulatedCalendly, length: int, status: int) -> None:
    """A name of MAX_PLAN characters is taken, a longer one is refused."""
    body = {"organization": calendly.running.organization, "plan": "p" * length}
    assert (await calendly.http.post("/simulator/organizations", json=body)).status_code == status


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("users", {"user": "nobody"}, 404),
        ("users", {"user": "nobody", "role": "king"}, 400),
        ("users", {}, 400),
        ("organizations", {"organization": "nowhere"}, 404),
        ("organizations", {}, 400),
        ("tokens", {"user": "nobody", "expires_in_seconds": -1}, 400),
    ],
)
async def test_wrong_changes_are_refused(
    calendly: SimulatedCalendly, path: str, body: dict[str, str], status: int
) -> None:
    """What does not exist or does not fit is refused in words."""
    answer = await calendly.http.post(f"/simulator/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["message"]
