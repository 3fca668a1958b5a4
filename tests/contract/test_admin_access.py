"""Who may do what at the management API: every route, with every key, generated from the table of routes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from pydantic import BaseModel, SecretStr

from ingest.errors import RequestRefused
from ingest.foundation.clock import ManualClock
from ingest.foundation.settings import CalendlySettings
from ingest.local.databases import Database
from ingest.operate.api_keys import USED_EVERY
from ingest.operate.booking_models import TimelineQuery
from ingest.operate.models import EventQuery, KeyRequest, SubscriptionRequest
from ingest.operate.quarantine_models import DiscardRequest
from ingest.operate.roles import COMMAND_LINE, Principal, Role
from ingest.operate.routes import ROUTES
from ingest.operate.routes.base import TOKEN_HEADER, Route
from ingest.simulator.app import Options, Simulator, simulator
from schemas.ids import last_segment
from tests.managing import (
    EPOCH,
    Desk,
    managing,
    write_booking,
    write_deliveries,
    write_events,
    write_organization,
    write_quarantine,
)
from tests.serving import settings_for

OTHER = "SOMEBODYELSE"
INVITEE = "https://api.calendly.com/scheduled_events/E/invitees/I"


@dataclass(frozen=True)
class Ground:
    """The API with something behind each route, for one organization; another one is known too."""

    desk: Desk
    running: Simulator
    ids: dict[str, UUID]
    org: str

    async def send(self, route: Route, key: str | None, *, org: str | None = None) -> httpx.Response:
        """Send a request that fits the route."""
        about = next((word for word in reversed(route.path.split("/")) if word in self.ids), "")
        path = route.path.format(org=org or self.org, id=self.ids.get(about, uuid4()))
        if route.query is TimelineQuery:
            path += f"?invitee={INVITEE}"
        headers = {} if route.token is None else {TOKEN_HEADER: self.running.owner_token}
        bodies: dict[type[BaseModel], object] = {
            SubscriptionRequest: {"token": self.running.owner_token},
            DiscardRequest: {"why": "not wanted"},
            KeyRequest: {"role": "reader", "label": "made in passing"},
        }
        body = None if route.takes is None else bodies[route.takes]
        return await self.desk.ask(route.method, path, key, headers=headers, json=body)


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """Something behind each route."""
    async with simulator(Options(seed="access")) as running:
        settings = settings_for(database).model_copy(update={"calendly": CalendlySettings(api_url=running.url)})
        org = last_segment(running.organization)
        async with managing(settings) as desk:
            token = SecretStr(running.owner_token)
            made, _ = await desk.actions.subscriptions.create(COMMAND_LINE, None, SubscriptionRequest(token=token))
            key = await desk.actions.keys.create(COMMAND_LINE, KeyRequest(role=Role.READER, organization=org))
            await write_organization(database, OTHER)
            for name in (org, OTHER):
                await write_events(database, name, 2)
            await write_deliveries(database, org, 2)
            await write_deliveries(database, OTHER, 2, first=100)
            mine = (await desk.actions.events.latest(Principal(Role.READER, org), EventQuery()))[0].id
            await write_booking(database, org, INVITEE)
            await write_booking(database, OTHER, INVITEE + "2")
            await write_quarantine(database, OTHER, [b"{}"], first=300)
            kept = await write_quarantine(database, org, [b"{}"] * 2, first=200)
            settled = {"quarantine": kept[0], "retry": kept[0], "discard": kept[1]}
            ids = settled | {"events": mine, "subscriptions": made.id, "keys": key.id}
            yield Ground(desk, running, ids, org)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_key_at_every_route(route: Route, ground: Ground) -> None:
    """No key: 401. Too low a role: 403. Another organization's key: 403, 404 or nothing of ours. Else it works."""
    for nobody in (None, "slw_", "slw_" + "A" * 43, "A" * 5000, "Bearer x"):
        assert (await ground.send(route, nobody)).status_code == 401
    for role in Role:
        for org in (None, ground.org, OTHER):
            response = await ground.send(route, await ground.desk.key(role, org))
            problem = response.json().get("code")
            if role.rank < route.role.rank:
                assert (response.status_code, problem) == (403, "role_too_low")
            elif org != OTHER:
                assert response.status_code in route.statuses, response.text
                assert route.gives.model_validate_json(response.content).model_fields_set == set(response.json())
            elif route.query is TimelineQuery:
                assert (response.status_code, problem) == (404, "not_found")
            elif "{org}" in route.path:
                assert (response.status_code, problem) == (403, "out_of_reach")
            elif "{id}" in route.path:
                assert (response.status_code, problem) == (404, "not_found")
            else:
                assert response.status_code in route.statuses
                assert ground.org not in response.text


async def test_another_organization_answers_as_one_that_is_none(ground: Ground) -> None:
    """A bound key learns nothing of whether another organization exists."""
    key = await ground.desk.key(Role.ADMIN, ground.org)
    answers = [
        await ground.desk.ask("GET", path.format(org=org), key)
        for path in ("/v1/organizations/{org}/subscriptions", "/v1/events?organization={org}")
        for org in (OTHER, "NOBODY")
    ]
    assert {response.status_code for response in answers} == {403}
    assert len({response.content for response in answers}) == 1


async def test_a_bound_key_sees_its_own_only(ground: Ground) -> None:
    """Lists without a named organization hold what the key reaches, and nothing else."""
    bound, every = await ground.desk.key(Role.ADMIN, ground.org), await ground.desk.key()
    for path in ("/v1/events", "/v1/deliveries", "/v1/bookings", "/v1/quarantine"):
        mine = (await ground.desk.ask("GET", path, bound)).json()["items"]
        assert {item["organization"] for item in mine} == {ground.org}
        everybody = (await ground.desk.ask("GET", path, every)).json()["items"]
        assert {item["organization"] for item in everybody} == {ground.org, OTHER}
    keys = (await ground.desk.ask("GET", "/v1/keys", bound)).json()["items"]
    assert {item["organization"] for item in keys} == {ground.org}


async def test_a_bound_admin_makes_bound_keys_only(ground: Ground) -> None:
    """An admin of one organization cannot make a key that reaches further than its own."""
    bound = await ground.desk.key(Role.ADMIN, ground.org)
    made = await ground.desk.ask("POST", "/v1/keys", bound, json={"role": "admin"})
    assert made.json()["organization"] == ground.org
    refused = await ground.desk.ask("POST", "/v1/keys", bound, json={"role": "admin", "organization": OTHER})
    assert (refused.status_code, refused.json()["code"]) == (403, "out_of_reach")


async def test_an_event_of_another_organization_is_not_there(ground: Ground) -> None:
    """A bound key gets the same 404 for a foreign event as for none."""
    foreign = await ground.desk.key(Role.READER, OTHER)
    known = await ground.desk.ask("GET", f"/v1/events/{ground.ids['events']}", foreign)
    unknown = await ground.desk.ask("GET", f"/v1/events/{uuid4()}", foreign)
    assert known.status_code == unknown.status_code == 404
    assert known.content == unknown.content


async def test_only_a_hash_of_a_key_is_kept(database: Database) -> None:
    """The database holds SHA-256 of the key and no part of the key itself."""
    async with managing(settings_for(database)) as desk:
        key = await desk.key()
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
    async with managing(settings_for(database), clock=clock) as desk:
        admin, victim = await desk.key(), await desk.key(Role.READER)
        assert (await desk.ask("GET", "/v1/events", victim)).status_code == 200
        [found] = [
            item for item in (await desk.ask("GET", "/v1/keys", admin)).json()["items"] if item["role"] == "reader"
        ]
        first = await desk.ask("DELETE", f"/v1/keys/{found['id']}", admin)
        assert (await desk.ask("GET", "/v1/events", victim)).status_code == 401
        clock.advance(timedelta(hours=1))
        again = await desk.ask("DELETE", f"/v1/keys/{found['id']}", admin)
    assert first.json()["revoked_at"] == again.json()["revoked_at"] == "2026-11-23T12:00:00Z"


async def test_the_last_use_is_written_once_a_minute(database: Database) -> None:
    """A key in use costs a write a minute, not a write a request."""
    clock = ManualClock(EPOCH)
    async with managing(settings_for(database), clock=clock) as desk:
        key = await desk.key()
        seen = []
        for _ in range(3):
            seen.append((await desk.ask("GET", "/v1/keys", key)).json()["items"][0]["last_used_at"])
            clock.advance(USED_EVERY / 2)
    assert seen == ["2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z", "2026-11-23T12:01:00Z"]


async def test_the_key_is_shown_once(database: Database) -> None:
    """Only the answer that makes a key holds it; no list does."""
    async with managing(settings_for(database)) as desk:
        admin = await desk.key()
        made = (await desk.ask("POST", "/v1/keys", admin, json={"role": "reader"})).json()
        listed = await desk.ask("GET", "/v1/keys", admin)
    assert made["key"].startswith("slw_")
    assert made["key"] not in listed.text
    assert "hash" not in listed.text


async def test_many_keys_at_once(database: Database) -> None:
    """Keys are told apart under load: forty requests at once, each answered for its own key."""
    async with managing(settings_for(database)) as desk:
        for org in ("A", "B"):
            await write_organization(database, org)
            await write_events(database, org, 1)
        keys = {org: await desk.key(Role.READER, org) for org in ("A", "B")}
        order = ["A", "B"] * 20
        answers = await asyncio.gather(*(desk.ask("GET", "/v1/events", keys[org]) for org in order))
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


async def test_the_actions_refuse_without_http(ground: Ground) -> None:
    """The verbs themselves check role and reach, whoever calls them."""
    reader, foreign = Principal(Role.READER, ground.org), Principal(Role.ADMIN, OTHER)
    request = SubscriptionRequest(token=SecretStr(ground.running.owner_token))
    actions = ground.desk.actions
    for attempt, code in (
        (actions.subscriptions.create(reader, ground.org, request), "role_too_low"),
        (actions.subscriptions.create(foreign, ground.org, request), "out_of_reach"),
        (actions.keys.create(reader, KeyRequest(role=Role.READER)), "role_too_low"),
        (actions.keys.revoke(foreign, ground.ids["keys"]), "not_found"),
        (actions.subscriptions.delete(foreign, ground.org, ground.ids["subscriptions"], request.token), "out_of_reach"),
        (actions.subscriptions.delete(foreign, None, ground.ids["subscriptions"], request.token), "not_found"),
        (actions.subscriptions.create(foreign, None, request), "token_of_another_organization"),
    ):
        with pytest.raises(RequestRefused) as caught:
            await attempt
        assert caught.value.code == code
