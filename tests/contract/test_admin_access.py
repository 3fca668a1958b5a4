"""Who may do what at the management API: every route, with every key, generated from the table of routes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.control_client import ACTS, CALLS, MCP_ACTS, MCP_CALLS
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.admin_api import build_app
from slotwire.ingest.operate.api_keys import USED_EVERY
from slotwire.ingest.operate.audit_models import AuditQuery
from slotwire.ingest.operate.connection_models import ConnectionRequest
from slotwire.ingest.operate.models import KeyRequest
from slotwire.ingest.operate.organization_models import OrganizationRequest
from slotwire.ingest.operate.process import operating
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.ingest.operate.routes import ROUTES
from slotwire.ingest.operate.routes.base import Route
from slotwire.ingest.operate.subscription_models import SubscriptionRequest
from tests.support.database_pool import DatabasePool
from tests.support.management_api import EPOCH, management_api, write_events, write_organization
from tests.support.populated_api import IN_ONE_LOOP, OTHER, PopulatedApi, populated_api
from tests.support.public_endpoint import settings_for

READS = [route for route in ROUTES if not route.changes]
CHANGES = [route for route in ROUTES if route.changes]


def named(route: Route) -> str:
    """Name a test by its route."""
    return f"{route.method} {route.path}"


ENDING = (
    "POST /v1/dead-letters/redrive",
    "DELETE /v1/organizations/{org}/signing-keys/{id}",
    "DELETE /v1/organizations/{org}/subscriptions/{id}",
    "DELETE /v1/organizations/{org}/connections/{id}",
    "DELETE /v1/organizations/{org}",
)
"""These changes end what others need: they come last, in this order."""
IN_ORDER = sorted(CHANGES, key=lambda route: ENDING.index(named(route)) if named(route) in ENDING else -1)
BOUND = [route for route in IN_ORDER if not route.everywhere]
"""Those that a key of one organization may make."""


@asynccontextmanager
async def _filled(database_pool: DatabasePool) -> AsyncIterator[PopulatedApi]:
    """Fill the API of a borrowed database once."""
    database = await database_pool.borrow()
    async with populated_api(database, "access") as found:
        yield found
    await database_pool.give_back(database)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def of_all(database_pool: DatabasePool) -> AsyncIterator[PopulatedApi]:
    """Something behind each route, for the changes with keys of all organizations; each has something of its own."""
    async with _filled(database_pool) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def of_one(database_pool: DatabasePool) -> AsyncIterator[PopulatedApi]:
    """The same, for the changes with keys of its organization."""
    async with _filled(database_pool) as found:
        yield found


async def test_the_application_serves_the_table_and_nothing_else(database: Database) -> None:
    """Every route that answers is in the table that these tests are made from, but for the document and for agents.

    Theirs take a grant, and no key: tests/integration/test_granted_calls.py and test_mcp_server.py.
    """
    async with operating(settings_for(database), SystemClock(), application="test") as actions:
        routes = build_app(actions).router.routes()
    served = {(route.method, route.resource.canonical) for route in routes if route.resource is not None}
    beside = {("GET", "/openapi.json"), ("POST", CALLS), ("POST", ACTS), ("POST", MCP_CALLS), ("POST", MCP_ACTS)}
    assert served == {(route.method, route.path) for route in ROUTES} | beside
    assert len(CHANGES) + len(READS) == len(served) - len(beside)


@IN_ONE_LOOP
@pytest.mark.parametrize("route", READS, ids=named)
async def test_every_key_at_every_route_that_reads(route: Route, shared_api: PopulatedApi) -> None:
    """No key: 401. Too low a role: 403. Another organization's key sees nothing of ours. Else it works."""
    before = await shared_api.state()
    await refuses_nobody(route, shared_api)
    for role in Role:
        for org in (None, shared_api.org, OTHER):
            response = await shared_api.send(route, await shared_api.api.key(role, org))
            if role.rank < route.role.rank:
                assert (response.status_code, response.json()["code"]) == (403, "role_too_low")
            elif org == OTHER:
                sees_nothing(response, route, shared_api)
            else:
                works(response, route)
    after = await shared_api.state()
    assert {**after, "api_keys": None} == {**before, "api_keys": None}


@IN_ONE_LOOP
@pytest.mark.parametrize("route", CHANGES, ids=named)
async def test_a_key_of_too_little_changes_nothing(route: Route, shared_api: PopulatedApi) -> None:
    """Neither too low a role nor another reach changes anything, here or at Calendly; each attempt is in the audit."""
    low = [
        await shared_api.api.key(role, org)
        for role in Role
        if role.rank < route.role.rank
        for org in (None, shared_api.org)
    ]
    foreign = [await shared_api.api.key(role, OTHER) for role in Role]
    if route.everywhere:
        foreign.append(await shared_api.api.key(Role.ADMIN, shared_api.org))
    before, ours = await shared_api.state(), await shared_api.state(shared_api.org)
    await refuses_nobody(route, shared_api)
    for key in low:
        response = await shared_api.send(route, key)
        assert (response.status_code, response.json()["code"]) == (403, "role_too_low")
    assert await shared_api.state() == before
    for key in foreign:
        sees_nothing(await shared_api.send(route, key), route, shared_api)
    assert await shared_api.state(shared_api.org) == ours
    audited = await shared_api.audited(route.action)
    assert {(await shared_api.key_id(key), "refused") for key in low} <= audited
    assert {await shared_api.key_id(key) for key in foreign} <= {actor for actor, _ in audited}


@IN_ONE_LOOP
@pytest.mark.parametrize("route", IN_ORDER, ids=named)
async def test_the_key_that_it_takes_changes_what_it_says(route: Route, of_all: PopulatedApi) -> None:
    """A key of the lowest role that may is answered as described."""
    await changes(route, await of_all.api.key(route.role), of_all)


@IN_ONE_LOOP
@pytest.mark.parametrize("route", BOUND, ids=named)
async def test_a_key_of_no_more_reach_than_it_takes_does(route: Route, of_one: PopulatedApi) -> None:
    """So is one of the organization alone, where such a key may do it."""
    await changes(route, await of_one.api.key(route.role, of_one.org), of_one)


async def changes(route: Route, key: str, populated: PopulatedApi) -> None:
    """Check that a change is answered as described, and is in the audit."""
    works(await populated.send(route, key), route)
    assert (await populated.key_id(key), "done") in await populated.audited(route.action)


async def refuses_nobody(route: Route, populated: PopulatedApi) -> None:
    """Check that a request without a key that is good is 401."""
    for nobody in (None, "slw_", "slw_" + "A" * 43, "A" * 5000, "Bearer x"):
        assert (await populated.send(route, nobody)).status_code == 401


def sees_nothing(response: httpx.Response, route: Route, populated: PopulatedApi) -> None:
    """Check that an answer to another organization's key refuses, or holds nothing of ours."""
    if response.status_code in route.statuses:
        assert populated.org not in response.text
        assert "{org}" not in route.path
        assert "{id}" not in route.path
    else:
        assert (response.status_code, response.json()["code"]) in {
            (403, "role_too_low"),
            (403, "out_of_reach"),
            (404, "not_found"),
            (422, "token_of_another_organization"),
        }


def works(response: httpx.Response, route: Route) -> None:
    """Check that an answer is as described, with all of its fields."""
    assert response.status_code in route.statuses, response.text
    assert route.gives.model_validate_json(response.content).model_fields_set == set(response.json())


@IN_ONE_LOOP
async def test_another_organization_looks_like_an_unknown_one(shared_api: PopulatedApi) -> None:
    """A bound key learns nothing of whether another organization exists."""
    key = await shared_api.api.key(Role.ADMIN, shared_api.org)
    answers = [
        await shared_api.api.ask("GET", path.format(org=org), key)
        for path in (
            "/v1/organizations/{org}",
            "/v1/organizations/{org}/subscriptions",
            "/v1/organizations/{org}/connections",
            "/v1/events?organization={org}",
            "/v1/audit?organization={org}",
        )
        for org in (OTHER, "NOBODY")
    ]
    assert {response.status_code for response in answers} == {403}
    assert len({response.content for response in answers}) == 1


@IN_ONE_LOOP
async def test_a_bound_key_sees_its_own_only(shared_api: PopulatedApi) -> None:
    """Lists without a named organization hold what the key reaches, and nothing else."""
    bound, every = await shared_api.api.key(Role.ADMIN, shared_api.org), await shared_api.api.key()
    for path in ("/v1/events", "/v1/deliveries", "/v1/bookings", "/v1/quarantine"):
        mine = (await shared_api.api.ask("GET", path, bound)).json()["items"]
        assert {item["organization"] for item in mine} == {shared_api.org}
        everybody = (await shared_api.api.ask("GET", path, every)).json()["items"]
        assert {item["organization"] for item in everybody} == {shared_api.org, OTHER}
    keys = (await shared_api.api.ask("GET", "/v1/keys", bound)).json()["items"]
    assert {item["organization"] for item in keys} == {shared_api.org}


@IN_ONE_LOOP
async def test_a_bound_admin_makes_bound_keys_only(shared_api: PopulatedApi) -> None:
    """An admin of one organization cannot make a key that reaches further than its own."""
    bound = await shared_api.api.key(Role.ADMIN, shared_api.org)
    made = await shared_api.api.ask("POST", "/v1/keys", bound, json={"role": "admin"})
    assert made.json()["organization"] == shared_api.org
    refused = await shared_api.api.ask("POST", "/v1/keys", bound, json={"role": "admin", "organization": OTHER})
    assert (refused.status_code, refused.json()["code"]) == (403, "out_of_reach")


@IN_ONE_LOOP
async def test_an_event_of_another_organization_is_not_there(shared_api: PopulatedApi) -> None:
    """A bound key gets the same 404 for a foreign event as for none."""
    foreign = await shared_api.api.key(Role.READER, OTHER)
    known = await shared_api.api.ask("GET", f"/v1/events/{shared_api.ids['events']}", foreign)
    unknown = await shared_api.api.ask("GET", f"/v1/events/{uuid4()}", foreign)
    assert known.status_code == unknown.status_code == 404
    assert known.content == unknown.content


async def test_only_a_hash_of_a_key_is_kept(database: Database) -> None:
    """The database holds SHA-256 of the key and no part of the key itself."""
    async with management_api(settings_for(database)) as api:
        key = await api.key()
    connection = await asyncpg.connect(database.owner_url)
    try:
        row = await connection.fetchrow("SELECT hash, k::text AS whole FROM slotwire.api_keys k")
    finally:
        await connection.close()
    assert row is not None
    assert row["hash"] == hashlib.sha256(key.encode()).digest()
    assert key not in row["whole"]
    assert key[4:20] not in row["whole"]


async def test_a_revoked_key_is_refused_at_once(database: Database) -> None:
    """After the revocation the next request is a 401; revoking again keeps the first time."""
    clock = ManualClock(EPOCH)
    async with management_api(settings_for(database), clock=clock) as api:
        admin, victim = await api.key(), await api.key(Role.READER)
        assert (await api.ask("GET", "/v1/events", victim)).status_code == 200
        [found] = [
            item for item in (await api.ask("GET", "/v1/keys", admin)).json()["items"] if item["role"] == "reader"
        ]
        first = await api.ask("DELETE", f"/v1/keys/{found['id']}", admin)
        assert (await api.ask("GET", "/v1/events", victim)).status_code == 401
        clock.advance(timedelta(hours=1))
        again = await api.ask("DELETE", f"/v1/keys/{found['id']}", admin)
    assert first.json()["revoked_at"] == again.json()["revoked_at"] == "2026-11-23T12:00:00Z"


async def test_the_last_use_is_written_once_a_minute(database: Database) -> None:
    """A key in use costs a write a minute, not a write a request."""
    clock = ManualClock(EPOCH)
    async with management_api(settings_for(database), clock=clock) as api:
        key = await api.key()
        seen = []
        for _ in range(3):
            seen.append((await api.ask("GET", "/v1/keys", key)).json()["items"][0]["last_used_at"])
            clock.advance(USED_EVERY / 2)
    assert seen == ["2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z", "2026-11-23T12:01:00Z"]


async def test_the_key_is_shown_once(database: Database) -> None:
    """Only the answer that makes a key holds it; no list does."""
    async with management_api(settings_for(database)) as api:
        admin = await api.key()
        made = (await api.ask("POST", "/v1/keys", admin, json={"role": "reader"})).json()
        listed = await api.ask("GET", "/v1/keys", admin)
    assert made["key"].startswith("slw_")
    assert made["key"] not in listed.text
    assert "hash" not in listed.text


async def test_many_keys_at_once(database: Database) -> None:
    """Keys are told apart under load: forty requests at once, each answered for its own key."""
    async with management_api(settings_for(database)) as api:
        for org in ("A", "B"):
            await write_organization(database, org)
            await write_events(database, org, 1)
        keys = {org: await api.key(Role.READER, org) for org in ("A", "B")}
        order = ["A", "B"] * 20
        answers = await asyncio.gather(*(api.ask("GET", "/v1/events", keys[org]) for org in order))
    assert [response.json()["items"][0]["organization"] for response in answers] == order


def test_roles_grow() -> None:
    """Each role may do what the one before may, and nothing more."""
    assert [role.rank for role in (Role.READER, Role.OPERATOR, Role.ADMIN)] == [0, 1, 2]
    for holder in Role:
        for needed in Role:
            if holder.rank >= needed.rank:
                Principal(holder).require(needed)
            else:
                with pytest.raises(RequestRefused):
                    Principal(holder).require(needed)


async def test_the_actions_refuse_without_http(database: Database) -> None:
    """The verbs themselves check role and reach, whoever calls them."""
    async with populated_api(database, "access") as populated:
        reader, foreign = Principal(Role.READER, populated.org), Principal(Role.ADMIN, OTHER)
        request, actions = SubscriptionRequest(), populated.api.actions
        connection = ConnectionRequest(token=SecretStr(populated.running.owner_token))
        organization = OrganizationRequest(token=connection.token)
        for attempt, code in (
            (actions.organizations.add(reader, organization), "role_too_low"),
            (actions.organizations.add(foreign, organization), "token_of_another_organization"),
            (actions.organizations.remove(foreign, populated.org, force=True), "out_of_reach"),
            (actions.connections.add(reader, populated.org, connection), "role_too_low"),
            (actions.connections.add(foreign, populated.org, connection), "out_of_reach"),
            (actions.connections.delete(foreign, None, populated.ids["connections"]), "not_found"),
            (actions.subscriptions.create(reader, populated.org, request), "role_too_low"),
            (actions.subscriptions.create(foreign, populated.org, request), "out_of_reach"),
            (actions.subscriptions.delete(foreign, populated.org, populated.ids["subscriptions"]), "out_of_reach"),
            (actions.subscriptions.delete(foreign, None, populated.ids["subscriptions"]), "not_found"),
            (actions.keys.create(reader, KeyRequest(role=Role.READER)), "role_too_low"),
            (actions.keys.revoke(foreign, populated.ids["keys"]), "not_found"),
            (actions.audit.list(reader, AuditQuery()), "role_too_low"),
        ):
            with pytest.raises(RequestRefused) as caught:
                await attempt
            assert caught.value.code == code
