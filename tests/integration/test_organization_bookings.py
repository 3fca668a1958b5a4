"""`ctx.bookings`: what an agent reads of its organization's bookings, through the role of its process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from slotwire.handlers.reach.bookings import OrganizationBookings, PostgresBookings, WaitingForPerson
from slotwire.handlers.reach.chains import PostgresChains
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.events import InviteeRescheduled
from slotwire.schemas.ids import last_segment
from tests.support.management_api import write_approval, write_letter, write_quarantine
from tests.support.public_endpoint import (
    Endpoint,
    Hook,
    invitee_body,
    make_hook,
    new_invitee,
    running_endpoint,
    settings_for,
)
from tests.support.writing import write_all

NOW = datetime.now(UTC)
DAY = (datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC))
LONG_AGO = NOW - timedelta(days=400)
HOST = "https://api.calendly.com/users/HOST"


@dataclass
class World:
    """Two organizations, and what an agent reads of the first one."""

    database: Database
    settings: Settings
    endpoint: Endpoint
    hooks: tuple[Hook, Hook]
    agents: Any
    owner: Any

    def of(self, hook: Hook) -> OrganizationBookings:
        """What an agent has for an event of an organization."""
        return OrganizationBookings(PostgresBookings(self.agents, clock=ManualClock(NOW)), self.org(hook))

    @staticmethod
    def org(hook: Hook) -> str:
        """The identifier of an organization."""
        return last_segment(hook.organization)

    async def told(self, hook: Hook, *bodies: bytes) -> None:
        """Deliver bodies, one after another, and write them."""
        for body in bodies:
            assert (await self.endpoint.deliver(hook, body)).status_code == 200
        await write_all(self.settings)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """An endpoint with two organizations, and connections of the owner and the agents."""
    settings = settings_for(database)
    hooks = (await make_hook(settings, database), await make_hook(settings, database))
    owner, agents = await asyncpg.connect(database.owner_url), await asyncpg.connect(database.url_of["agents"])
    try:
        async with running_endpoint(settings) as endpoint:
            yield World(database, settings, endpoint, hooks, agents, owner)
    finally:
        await owner.close()
        await agents.close()


async def test_an_agent_reads_what_is_booked_in_its_organization(world: World) -> None:
    """Active bookings of a stretch of time with what invitees told; of one host; never another organization's."""
    ours, theirs = world.hooks
    here, canceled, elsewhere = new_invitee(), new_invitee(), new_invitee()
    later = {"uri": "https://api.calendly.com/scheduled_events/L", "start_time": "2026-12-02T00:00:00Z"}
    await world.told(
        ours,
        invitee_body(invitee=here, name="Zoë"),
        invitee_body(invitee=canceled),
        invitee_body("invitee.canceled", invitee=canceled),
        invitee_body(scheduled_event=later),
    )
    await world.told(theirs, invitee_body(invitee=elsewhere))
    (found,) = await world.of(ours).between(*DAY)
    assert (found.invitee, found.hosts, found.no_show) == (here, (HOST,), False)
    assert found.created is not None
    assert found.created.name == "Zoë"
    assert [each.invitee for each in await world.of(ours).between(*DAY, host=HOST)] == [here]
    assert not await world.of(ours).between(*DAY, host=f"{HOST}2")
    assert [each.invitee for each in await world.of(theirs).between(*DAY)] == [elsewhere]
    assert await world.of(theirs).created(here) is None


async def test_an_agent_reads_what_has_changed_in_its_organization(world: World) -> None:
    """In the log's order between two places, a move with what its invitee told; data that is too long is left out."""
    ours, theirs = world.hooks
    old, new = new_invitee(), new_invitee()
    await world.told(ours, invitee_body(invitee=old))
    before = await world.of(ours).last_event()
    answers = [{"question": "Why?", "answer": "x" * 70_000, "position": 0}]
    await world.told(
        ours,
        invitee_body("invitee.canceled", invitee=old, rescheduled=True, new_invitee=new),
        invitee_body(invitee=new, old_invitee=old, name="Moved"),
        invitee_body(questions_and_answers=answers),
    )
    until = await world.of(ours).last_event()
    await world.told(theirs, invitee_body())
    await world.told(ours, invitee_body())
    found = await world.of(ours).changes(before, until, since=LONG_AGO)
    kinds = [(each.type.split(".", 2)[-1], each.data is None) for each in found]
    assert kinds == [
        ("invitee.canceled.v1", False),
        ("invitee.created.v1", False),
        ("invitee.rescheduled.v1", False),
        ("invitee.created.v1", True),
    ]
    assert isinstance(found[2].data, InviteeRescheduled)
    assert found[2].created is not None
    assert (found[2].data.old_invitee, found[2].created.name) == (old, "Moved")
    assert not await world.of(ours).changes(before, until, since=LONG_AGO, host=f"{HOST}2")
    assert len(await world.of(ours).changes(before, until, since=LONG_AGO, host=HOST)) == 4
    # Without a place: what was recorded since a time. What was fetched at the beginning is no news.
    assert len(await world.of(ours).changes(None, until, since=NOW - timedelta(hours=1))) == 5
    assert not await world.of(ours).changes(None, until, since=NOW + timedelta(hours=1))
    await world.owner.execute("UPDATE slotwire.events SET origin = 'backfill' WHERE org = $1", world.org(ours))
    assert len(await world.of(ours).changes(before, until, since=LONG_AGO)) == 4
    assert not await world.of(ours).changes(before, until, since=NOW + timedelta(days=1))


async def test_an_agent_reads_what_waits_for_a_person(world: World) -> None:
    """Each kind is counted for its organization alone, with the oldest; what is settled or over is not."""
    ours, theirs = world.hooks
    org, other = world.org(ours), world.org(theirs)
    assert not await world.of(ours).waiting()
    await write_quarantine(world.database, org, [b"{}", b"{}"])
    await write_quarantine(world.database, other, [b"{}"], first=10)
    await write_letter(world.database, org, 1)
    await write_approval(world.database, org, 1)
    await write_approval(world.database, org, 2, days=-1)  # its time is over
    for state, evidence, request in (("person", None, "{}"), ("done", "answer", None)):
        await world.owner.execute(
            "INSERT INTO slotwire.actions (id, org, caller, key, fingerprint, verb, connection_id, user_uri, target,"
            " state, reason, evidence, step, step_at, called_at, head, intended_at, settled_at, request)"
            " VALUES (gen_random_uuid(), $1, 'c', $2, '', 'cancel', gen_random_uuid(), 'u', 't', $2, 'why',"
            " $3, 'cancel', $4, $4, 0, $4, $4, $5::jsonb)",
            *(org, state, evidence, NOW, request),
        )
    for state, reason in (("error", "refused"), ("revoked", "disconnected"), ("expiring", "soon"), ("active", None)):
        await world.owner.execute(
            "INSERT INTO slotwire.connections (id, org, kind, user_uri, credential_id, sealed, state, checked_at,"
            " created_at, changed_at) VALUES (gen_random_uuid(), $1, 'personal_access_token', $2, gen_random_uuid(),"
            " '', 'active', $3, $3, $3)",
            *(org, state, NOW),
        )
        await world.owner.execute(
            "UPDATE slotwire.connections SET state = $1, reason = $2 WHERE user_uri = $1", *(state, reason)
        )
    for hours, cause in ((2, "refused"), (0, "retrying")):
        await world.owner.execute(
            "INSERT INTO slotwire.holes (id, org, cause, since, noticed_at, last_noticed_at, due_at)"
            " VALUES (gen_random_uuid(), $1, $3, $2, $2, $2, $2)",
            *(org, NOW - timedelta(hours=hours), cause),
        )
    await world.owner.execute(
        "UPDATE slotwire.subscriptions SET lost_at = $2, lost_reason = 'gone' WHERE org = $1", org, NOW
    )
    await world.owner.execute("UPDATE slotwire.runs SET state = 'diverged' WHERE org = $1", org)
    found = {each.kind: each for each in await world.of(ours).waiting()}
    numbers = {kind: each.number for kind, each in found.items()}
    assert numbers == {
        "subscriptions": 1,
        "connections": 1,
        "expiring": 1,
        "holes": 1,
        "quarantine": 2,
        "dead_letters": 1,
        "runs": 2,
        "approvals": 1,
        "actions": 1,
    }
    assert found["holes"] == WaitingForPerson("holes", 1, NOW - timedelta(hours=2))
    assert [each.kind for each in await world.of(theirs).waiting()] == ["quarantine"]


async def test_the_first_to_say_something_says_it(world: World) -> None:
    """Whoever says the same later is answered with the first; something else, or elsewhere, is said again."""
    chains = PostgresChains(world.agents, agent="telling", clock=ManualClock(NOW))
    said = [f'{{"about": "{about}", "by": "{by}"}}' for about, by in (("one", "a"), ("one", "b"), ("two", "c"))]
    assert [await chains.first("ORG", "meeting", each) for each in said] == [said[0], said[0], said[2]]
    assert await chains.first("OTHER", "meeting", said[1]) == said[1]
    assert await chains.state("ORG", "meeting", None) == {"about": "two", "by": "c"}
