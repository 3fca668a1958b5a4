"""A person decides in the browser, by a link: what they see, what it is for, and every other way to use it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from slotwire.ingest.control.approval_html import indented, visible
from slotwire.ingest.control.approval_links import MAX_LIFE
from slotwire.ingest.control.oauth_listener import MAX_BODY_BYTES
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from tests.support.approval_desk import DecisionDesk, opened
from tests.support.command import environment, slotwire
from tests.support.management_api import write_organization
from tests.support.owner import owner_rows


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[DecisionDesk]:
    """The pages of somebody who has no OAuth app."""
    async with opened(database) as made:
        yield made


async def test_a_person_sees_what_it_is_about_and_decides_once(desk: DecisionDesk) -> None:
    """Opened by scanners, nothing changes; a button decides, the run is ready, and the audit names the link."""
    asked = await desk.asked()
    url = await desk.link(asked)
    shown, again = [await desk.browser.get(url) for _ in range(2)]
    assert (await desk.browser.head(url)).status_code == shown.status_code == again.status_code == 200
    assert await desk.state(asked) == ("open", "waiting")
    digest = (await desk.api.actions.approvals.get(COMMAND_LINE, asked)).digest
    for told in ("finance", "crm", "ORG", "refund", digest, "UTC", "&quot;amount&quot;: 70"):
        assert told in shown.text
    page = await desk.press(url)
    assert (page.status_code, "Approved" in page.text) == (200, True)
    assert await desk.state(asked) == ("approved", "ready")
    for again in (await desk.press(url, "deny"), await desk.browser.get(url)):
        assert (again.status_code, "decided before" in again.text) == (409, True)
    decided_by = (await desk.api.actions.approvals.get(COMMAND_LINE, asked)).decided_by
    found = re.fullmatch(r"link ([0-9a-f-]{36}), made by command line", str(decided_by))
    assert found
    rows = await owner_rows(desk.database, "SELECT actor, action, org, target, result FROM slotwire.audit")
    actor = found[1]
    assert {tuple(row) for row in rows if row["result"] != "started"} == {
        ("command line", "approvals.link", "ORG", str(asked), "done"),
        (actor, "approvals.decide", "ORG", str(asked), "done"),
        (actor, "approvals.decide", "ORG", str(asked), "refused"),
    }


async def test_what_an_invitee_typed_is_shown_as_text(desk: DecisionDesk) -> None:
    """No tag of theirs, and no character that hides or turns others; nothing is loaded, framed, stored or told."""
    shown = await desk.browser.get(await desk.link(await desk.asked()))
    assert "<script" not in shown.text
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\u202eevil" in shown.text
    policy = shown.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "form-action 'self'; base-uri 'none'; frame-ancestors 'none'" in policy
    told = [shown.headers[name] for name in ("cache-control", "referrer-policy", "x-frame-options")]
    assert told == ["no-store", "no-referrer", "DENY"]
    assert indented('{"a":1,"a":2}') == '{"a":1,"a":2}', "what a parser would drop is shown"
    assert visible("a\u200bb\nc\x07") == "a\\u200bb\nc\\u0007"


async def test_a_link_is_for_one_approval_person_and_content(desk: DecisionDesk) -> None:
    """Changed in any octet, for another digest, late, or when another link took its place: nothing is decided."""
    asked, other = await desk.asked(1), await desk.asked(2)
    url, others = await desk.link(asked), await desk.link(other)
    head, _, ticket = url.partition("?ticket=")
    swapped = others.rpartition("=")[2][:22] + ticket[22:]
    for forged in (ticket[:-1] + ("A" if ticket[-1] != "A" else "B"), swapped, ticket[:-1], "", "é" * 64, "A" * 64):
        assert (await desk.browser.get(head, params={"ticket": forged})).status_code == 404
        assert (await desk.press(url, ticket=forged)).status_code == 404
    assert (await desk.press(url, digest="0" * 64)).status_code == 409
    assert (await desk.press(url, None)).status_code == (await desk.press(url, "perhaps")).status_code == 400
    site = {"Sec-Fetch-Site": "cross-site"}
    assert (await desk.browser.post(head, data={"ticket": ticket}, headers=site)).status_code == 403
    assert (await desk.browser.post(head, content=b"x" * (MAX_BODY_BYTES + 1))).status_code == 413
    await owner_rows(desk.database, "UPDATE slotwire.approvals SET person = 'somebody else' WHERE id = $1", other)
    assert (await desk.press(others)).status_code == 404, "it was made for another person"
    newer = await desk.link(asked)
    assert (await desk.press(url)).status_code == 404, "another one took its place"
    desk.clock.advance(timedelta(days=1, hours=1))
    late = await desk.press(newer)
    assert (late.status_code, "is over" in late.text) == (404, True)
    with pytest.raises(RequestRefused, match="its time is over"):
        await desk.link(asked)
    assert await desk.state(asked) == await desk.state(other) == ("open", "waiting")


async def test_a_link_ends_after_a_week_and_with_its_run(desk: DecisionDesk) -> None:
    """However long the approval is open; and removing the organization ends run, approval and link."""
    asked = await desk.asked(days=30)
    made = await desk.api.actions.approvals.link(COMMAND_LINE, asked)
    assert made.expires_at == desk.clock.now() + MAX_LIFE
    await desk.api.actions.organizations.organizations(COMMAND_LINE).remove("ORG")
    assert (await desk.browser.get(made.url)).status_code == 404
    for table in ("runs", "run_entries", "approvals", "approval_links"):
        assert await owner_rows(desk.database, f"SELECT FROM slotwire.{table}") == []


async def test_only_an_operator_of_the_organization_makes_links(desk: DecisionDesk) -> None:
    """Not a reader, a stranger or the agent's process, whose role sees no link; by command the address is on stdout."""
    asked = await desk.asked()
    await write_organization(desk.database, "ELSE")
    for role, org, status in ((Role.READER, "ORG", 403), (Role.OPERATOR, "ELSE", 404), (Role.OPERATOR, "ORG", 201)):
        key = await desk.api.key(role, org)
        answer = await desk.api.ask("POST", f"/v1/approvals/{asked}/link", key)
        assert answer.status_code == status
        if answer.is_success:
            assert (await desk.browser.get(answer.json()["url"])).status_code == 200
    agents = await asyncpg.connect(desk.database.url_of["agents"])
    try:
        for attempt in ("SELECT FROM slotwire.approval_links", "DELETE FROM slotwire.approval_links"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await agents.execute(attempt)
    finally:
        await agents.close()
    env = environment(desk.settings)
    none = await slotwire("agents", "approvals", "link", str(asked), env=env)
    assert (none.code, "no pages for browsers" in none.stderr) == (1, True)
    told: dict[str, Any] = {**env, "SLOTWIRE_OAUTH__PUBLIC_URL": desk.url}
    made = await slotwire("agents", "approvals", "link", str(asked), env=told)
    assert (await desk.press(made.stdout.strip(), "deny")).status_code == 200
    assert await desk.state(asked) == ("denied", "ready")
