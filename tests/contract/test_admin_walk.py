"""Every parameter that can name something, at every route: another organization's thing looks like none at all.

The parameters are read from the OpenAPI document. A new one fails here until it is known what it names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from slotwire.ingest.operate.cursors import (
    write_booking_place,
    write_id_place,
    write_log_place,
    write_name_place,
    write_offer_place,
    write_time_place,
)
from slotwire.ingest.operate.idempotency import HEADER
from slotwire.ingest.operate.openapi import document
from slotwire.ingest.operate.roles import Role
from slotwire.ingest.operate.routes import ROUTES
from slotwire.ingest.operate.routes.base import Route
from slotwire.ingest.simulator.model import API
from tests.support.management_api import EPOCH
from tests.support.populated_api import IN_ONE_LOOP, INVITEE, OTHER, PopulatedApi

NAMES_NOTHING = {
    "limit",
    "now",
    "ended",
    "since",
    "outcome",
    "type",
    "state",
    "reason",
    "waiting",
    "at_calendly",
    "action",
    "force",
    "after",
    "until",
}
"""Parameters that choose among what is within reach, and name nothing."""
NOBODY = UUID(int=7)


class Attempt(NamedTuple):
    """A route, the parameter that is tried, and where it is: `path`, `query`, `header` or `body`."""

    route: Route
    place: str
    name: str


def attempts() -> Iterator[Attempt]:
    """Give every parameter of every route that names something, as the document has them."""
    paths = document()["paths"]
    forms = document()["components"]["schemas"]
    for route in ROUTES:
        for parameter in paths[route.path][route.method.lower()]["parameters"]:
            if parameter["name"] not in NAMES_NOTHING:
                yield Attempt(route, parameter["in"], parameter["name"])
        if route.takes is not None:
            for name in forms[route.takes.__name__]["properties"]:
                if name in {"organization", "subject"}:
                    yield Attempt(route, "body", name)


ATTEMPTS = list(attempts())


def pair(attempt: Attempt, populated: PopulatedApi) -> tuple[str, str]:
    """Return what names something of the organization, and what names nothing."""
    path = attempt.route.path.split("/")
    words = ("/".join(path[2:4]), *reversed(path))
    about = next((word for word in words if word in populated.ids), "keys")
    pairs = {
        "org": (populated.org, "NOBODY"),
        "organization": (populated.org, "NOBODY"),
        "id": (str(populated.ids[about]), str(NOBODY)),
        "event_id": (str(populated.ids["events"]), str(NOBODY)),
        "actor": (str(populated.ids["keys"]), str(NOBODY)),
        "invitee": (INVITEE, INVITEE + "9"),
        "subject": (INVITEE, INVITEE + "9"),
        "target": (INVITEE, INVITEE + "9"),
        "user": (f"{API}/users/{owner(populated)}", f"{API}/users/NOBODY"),
        "event_type": (f"{API}/event_types/CALL", f"{API}/event_types/NONE"),
        "agent": ("crm", "nobody"),
        "agent_id": (str(populated.ids["agents"]), str(NOBODY)),
        "event": (str(populated.ids["events"]), str(NOBODY)),
        "email": ("ada@example.com", "nobody@example.com"),
        "Idempotency-Key": ("used", "new"),
    }
    assert attempt.name == "cursor" or attempt.name in pairs, "say here what it names, or add it to NAMES_NOTHING"
    return pairs.get(attempt.name) or cursors(attempt.route.noun, attempt.route, populated)


def owner(populated: PopulatedApi) -> str:
    """Return the owner of the organization, who is connected."""
    return populated.running.world.members(populated.org)[0].id


def cursors(kind: str, route: Route, populated: PopulatedApi) -> tuple[str, str]:
    """Return a cursor made of the organization's rows, and one made of none, at the same place of the list."""
    if kind == "log":
        kind = route.path.rpartition("/")[2]
        return write_log_place(kind, {0: 1}), write_log_place(kind, {0: 2})
    if kind == "bookings":
        return write_booking_place((INVITEE, populated.org)), write_booking_place((INVITEE, "NOBODY"))
    if kind == "organizations":
        return write_name_place(kind, populated.org), write_name_place(kind, populated.org + "0")
    if kind == "availability":
        user, event_type = f"{API}/users/{owner(populated)}", f"{API}/event_types/CALL"
        return write_offer_place((populated.org, user, event_type)), write_offer_place(("NOBODY", user, event_type))
    if kind in {"keys", "mcp_agents", "mcp_subscriptions", "connections", "subscriptions", "reconciliations"}:
        return write_time_place(kind, (EPOCH, populated.ids[kind])), write_time_place(kind, (EPOCH, NOBODY))
    return write_id_place(kind, UUID(int=200 << 64)), write_id_place(kind, UUID(int=(200 << 64) + 1))


async def send(attempt: Attempt, value: str, key: str, populated: PopulatedApi) -> httpx.Response:
    """Send a request that fits, as the other organization's caller, with one value in its place."""
    route = attempt.route
    ids = {"org": OTHER, "id": str(NOBODY)}
    query: dict[str, str] = {"invitee": INVITEE + "9"} if route.path.endswith("/timeline") else {}
    body: dict[str, Any] | None = populated.body(route)
    headers: dict[str, str] = {}
    match attempt.place:
        case "path":
            ids[attempt.name] = value
        case "query":
            query[attempt.name] = value
        case "header":
            headers[attempt.name] = value
        case _:
            assert body is not None
            body = {**body, attempt.name: value}
            if attempt.name == "subject":
                body |= {"scope": "user", "events": ["meeting_recap.created"]}
    path = route.path.format(**ids) + (f"?{urlencode(query)}" if query else "")
    return await populated.api.ask(route.method, path, key, json=body, headers=headers)


def seen(response: httpx.Response) -> tuple[int, bytes, Mapping[str, str]]:
    """Return status, body and headers, but for the time."""
    return response.status_code, response.content, {k: v for k, v in response.headers.items() if k.lower() != "date"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walked(shared_api: PopulatedApi) -> PopulatedApi:
    """Something behind each route, and an answer of the organization's stored under the name `used`."""
    ours = await shared_api.api.key(Role.ADMIN, shared_api.org)
    for route in ROUTES:
        if route.repeatable and "{id}" not in route.path:
            await shared_api.send(route, ours, headers={HEADER: "used"})
    return shared_api


@IN_ONE_LOOP
@pytest.mark.parametrize("noun", sorted({attempt.route.noun for attempt in ATTEMPTS}))
async def test_anothers_thing_looks_like_none(noun: str, walked: PopulatedApi) -> None:
    """Status, body and headers are the same for a thing of another organization as for one that does not exist."""
    keys = {role: await walked.api.key(role, OTHER) for role in Role}
    before = await walked.state(walked.org)
    for attempt in (each for each in ATTEMPTS if each.route.noun == noun):
        theirs, none = pair(attempt, walked)
        for role in sorted({Role.ADMIN, attempt.route.role}):
            found, missing = [seen(await send(attempt, value, keys[role], walked)) for value in (theirs, none)]
            if attempt.place == "header":  # what it makes has an id of its own
                assert (found[0], found[2].keys()) == (missing[0], missing[2].keys()), attempt
                assert walked.org.encode() not in found[1], attempt
            else:
                assert found == missing, attempt
    assert await walked.state(walked.org) == before


def test_the_walk_goes_everywhere() -> None:
    """Each route with a variable in its path, and each parameter that has an identifier's form, is tried."""
    tried = {(attempt.route.method, attempt.route.path, attempt.name) for attempt in ATTEMPTS}
    for route in ROUTES:
        for variable in ("org", "id"):
            assert (f"{{{variable}}}" in route.path) == ((route.method, route.path, variable) in tried)
    assert {name for _, _, name in tried} >= {"org", "id", "organization", "event_id", "subject", "invitee", "cursor"}
