"""Who may decide about what an agent asks for, until when, and for what."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256

import asyncpg
import pytest

from slotwire.handlers import Agent, Context
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import Role
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created, running_agents, until
from tests.support.command import environment, slotwire
from tests.support.management_api import WHAT, management_api, write_approval, write_organization
from tests.support.public_endpoint import settings_for

FORGED = """
INSERT INTO slotwire.approvals
    (id, agent, event_id, name, org, person, what, digest, asked_at, expires_at, state, decided_by)
SELECT gen_random_uuid(), agent, event_id, 'x', org, person, what, digest, asked_at, expires_at, 'approved', 'me'
FROM slotwire.approvals
"""
DIGEST = sha256(WHAT.encode()).hexdigest()


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


async def test_an_operator_of_the_organization_decides_once(database: Database) -> None:
    """No reader, nobody of another organization, for no other digest, not twice, and not after its time."""
    for org in ("ORG", "OTHER"):
        await write_organization(database, org)
    asked, late = await write_approval(database, "ORG", 1), await write_approval(database, "ORG", 2, days=-1)
    async with management_api(settings_for(database)) as api:
        reader, operator = await api.key(Role.READER, "ORG"), await api.key(Role.OPERATOR, "ORG")
        stranger = await api.key(Role.OPERATOR, "OTHER")

        async def decided(key: str, approval: object = asked, digest: str = DIGEST) -> tuple[int, str]:
            body = {"decision": "approve", "digest": digest}
            answer = await api.ask("POST", f"/v1/approvals/{approval}/decide", key, json=body)
            return answer.status_code, answer.json().get("detail", answer.json().get("state"))

        assert (await decided(reader))[0] == 403
        assert (await decided(stranger))[0] == 404
        assert await decided(operator, digest="0" * 64) == (409, "this is the digest of something else")
        assert await decided(operator, late) == (409, "its time is over")
        shown = (await api.ask("GET", f"/v1/approvals/{asked}", reader)).json()
        assert (shown["what"], shown["digest"], shown["state"]) == (None, DIGEST, "open")
        assert await decided(operator) == (200, "approved")
        assert await decided(operator) == (409, "it was approved before")
        shown = (await api.ask("GET", f"/v1/approvals/{asked}", operator)).json()
        assert (shown["what"], shown["state"]) == (WHAT, "approved")
        assert shown["decided_by"]
        actions = await api.actions.pool.fetch(
            "SELECT actor, code FROM slotwire.audit WHERE action = 'approvals.decide' AND result <> 'started'"
        )
        assert len(actions) == 6, "whoever tried is in the audit"


async def test_the_agents_process_cannot_decide(database: Database) -> None:
    """Its role may ask and read; it changes no approval, and calls no function that does."""
    await write_organization(database, "ORG")
    asked = await write_approval(database, "ORG", 1)
    connection = await asyncpg.connect(database.url_of["agents"])
    try:
        now = SystemClock().now()
        for statement, arguments in (
            ("UPDATE slotwire.approvals SET state = 'approved', decided_by = 'me'", ()),
            ("DELETE FROM slotwire.approvals", ()),
            ("SELECT slotwire.decide_approval($1, $2, true, 'me', $3)", (asked, bytes.fromhex(DIGEST), now)),
            (FORGED, ()),
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement, *arguments)
        assert await connection.fetchval("SELECT slotwire.expire_approval($1, $2)", asked, now) == "open"
    finally:
        await connection.close()


async def test_a_decision_by_command_lets_the_run_go_on(setup: AgentSetup, database: Database) -> None:
    """Asked across a restart of the agent, approved with the digest that `list` shows; another one runs out of time."""
    await write_organization(database, "TRIAL")
    # Ahead of the command's clock, which says when the run is to go on.
    clock, ended = ManualClock(SystemClock().now() + timedelta(minutes=5)), dict[str, str]()
    agent = Agent("careful")

    @agent.on(InviteeCreated)
    async def refund(event: Event[InviteeCreated], ctx: Context) -> None:
        decision = await ctx.approval("refund", what={"of": event.key}, person="finance", timeout=timedelta(hours=1))
        ended[event.key] = "expired" if decision.expired else f"{decision.approved} {decision.by}"

    async def asked() -> bool:
        found: int = await setup.pool.fetchval("SELECT count(*) FROM slotwire.approvals")
        return found == 2

    events = [invitee_created("asks", 1), invitee_created("quiet", 2)]
    await setup.publish(*events)
    async with running_agents(setup.runner(agent, clock=clock)):
        await until(asked)
    env = environment(settings_for(database))
    listed = await slotwire("agents", "approvals", "list", "careful", "--json", env=env)
    found = {json.loads(each["what"])["of"]: each for each in map(json.loads, listed.stdout.splitlines())}
    assert set(found) == {"asks", "quiet"}
    asks = found["asks"]
    done = await slotwire("agents", "approvals", "approve", asks["id"], "--digest", asks["digest"], env=env)
    assert (done.code, "approved" in done.stdout) == (0, True), done.stderr
    async with running_agents(setup.runner(agent, clock=clock)):
        await setup.settle(events[:1])
        assert ended.keys() == {"asks"}
        clock.advance(timedelta(hours=2))
        await setup.settle(events)
    assert (ended["asks"].startswith("True "), ended["quiet"]) == (True, "expired")
    assert not await setup.pool.fetchval("SELECT count(*) FROM slotwire.approvals")
