"""Names of organizations at the management API: who gives them, who changes them, and who may find out about them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import Role
from tests.support.populated_api import OTHER, PopulatedApi, populated_api

ORGANIZATIONS = "/v1/organizations"


@pytest.fixture
async def populated(database: Database) -> AsyncIterator[PopulatedApi]:
    """Something behind each route."""
    async with populated_api(database, "tenants") as found:
        yield found


async def names(populated: PopulatedApi) -> dict[str, str | None]:
    """Return the external id of each organization."""
    rows = await populated.api.actions.pool.fetch("SELECT org, external_id FROM slotwire.organizations")
    return {row["org"]: row["external_id"] for row in rows}


async def name(populated: PopulatedApi, key: str, external_id: str) -> tuple[int, bytes, dict[str, str]]:
    """Add the organization under a name; return status, body and headers."""
    body = {"token": populated.running.owner_token, "external_id": external_id}
    response = await populated.api.ask("POST", ORGANIZATIONS, key, json=body)
    headers = {key: value for key, value in response.headers.items() if key.lower() != "date"}
    return response.status_code, response.content, headers


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
async def test_a_bound_key_gives_no_name(role: Role, populated: PopulatedApi) -> None:
    """Free, taken or its own: a name given by a bound key gets one and the same refusal, and Calendly is not asked."""
    every = await populated.api.key(Role.OPERATOR)
    assert (await name(populated, every, "ours"))[0] == 200
    before, calls = await populated.state(), populated.calls
    bound = await populated.api.key(role, populated.org)
    answers = [await name(populated, bound, wanted) for wanted in ("free", "theirs", "ours")]
    assert {(status, body) for status, body, _ in answers} == {(403, answers[0][1])}
    assert b"out_of_reach" in answers[0][1]
    assert answers[0][2] == answers[1][2] == answers[2][2]
    after = await populated.state()
    assert {**after, "api_keys": None} == {**before, "api_keys": None}
    assert populated.calls == calls
    assert await populated.audited("organizations.add") >= {(await populated.key_id(bound), "refused")}


async def test_a_name_is_changed_by_admins_of_all_only(populated: PopulatedApi) -> None:
    """An operator of all names once; after that only an admin that reaches all organizations changes the name."""
    path, change = f"{ORGANIZATIONS}/{populated.org}", {"external_id": "other"}
    operator, admin = await populated.api.key(Role.OPERATOR), await populated.api.key(Role.ADMIN)
    assert (await name(populated, operator, "ours"))[0] == 200
    again = await populated.api.ask(
        "POST", ORGANIZATIONS, admin, json={"token": populated.running.owner_token, "external_id": "other"}
    )
    assert (again.status_code, again.json()["code"]) == (409, "external_id_set")
    assert "slotwire organizations rename" in again.json()["remedy"]
    for key, code in (
        (operator, "role_too_low"),
        (await populated.api.key(Role.OPERATOR, populated.org), "role_too_low"),
        (await populated.api.key(Role.ADMIN, populated.org), "out_of_reach"),
    ):
        refused = await populated.api.ask("PATCH", path, key, json=change)
        assert (refused.status_code, refused.json()["code"]) == (403, code)
    assert (await names(populated))[populated.org] == "ours"
    renamed = await populated.api.ask("PATCH", path, admin, json=change)
    assert (renamed.status_code, renamed.json()["external_id"]) == (200, "other")
    assert (await names(populated))[populated.org] == "other"


async def test_renaming_tells_a_bound_admin_nothing(populated: PopulatedApi) -> None:
    """Its own organization, another one, none at all; a free name or a taken one: one answer."""
    bound = await populated.api.key(Role.ADMIN, populated.org)
    answers = set()
    for org in (populated.org, OTHER, "NOBODY"):
        for wanted in ("free", "ours"):
            response = await populated.api.ask("PATCH", f"{ORGANIZATIONS}/{org}", bound, json={"external_id": wanted})
            answers.add((response.status_code, response.content))
    assert len(answers) == 1
    assert answers.pop()[0] == 403
