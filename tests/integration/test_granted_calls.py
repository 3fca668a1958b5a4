"""`ctx.calendly`: a handler's calls go through `control`, with a grant for its event and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from slotwire.handlers.reach.calendly import ControlledCalls, EventCalendly
from slotwire.ingest.foundation.actions_settings import ActionsSettings
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.control_client import ACTS, CALLS, ControlClient
from slotwire.ingest.foundation.errors import ConfigurationError, ControlUnavailable, RequestRefused
from slotwire.ingest.foundation.settings import CalendlySettings, Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.doctor_network import calls_of_agents
from slotwire.ingest.operate.organization_models import OrganizationRequest
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from tests.support.management_api import ManagementApi, management_api, write_events
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@dataclass
class World:
    """An organization that is connected, with a meeting at Calendly, and an event about it in the log."""

    simulator: Simulator
    api: ManagementApi
    agents: Any
    owner: Any
    clock: ManualClock
    org: str
    host: str
    meeting: str
    invitee: str
    event_id: UUID

    def calendly(
        self, control: ControlClient, event_id: UUID | None = None, *, agent: str = "planner"
    ) -> EventCalendly:
        """What a handler has for an event."""
        calls = ControlledCalls(self.agents, control, agent=agent, clock=self.clock)
        return EventCalendly(calls, event_id or self.event_id)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    """The simulator, the management API as `control` runs it, and connections of the owner and the agents."""
    clock = ManualClock(NOW)
    owner, agents = await asyncpg.connect(database.owner_url), await asyncpg.connect(database.url_of["agents"])
    try:
        async with simulator(Options(seed="granted", rate_limit=AMPLE)) as running:
            chosen = {
                "calendly": CalendlySettings(api_url=running.url, assumed_calls_per_minute=AMPLE),
                "actions": ActionsSettings(agents=("planner",)),
            }
            settings = settings_for(database).model_copy(update=chosen)
            async with management_api(settings, clock=clock) as api:
                yield await _made(database, running, api, agents, owner, clock)
    finally:
        await owner.close()
        await agents.close()


async def _made(
    database: Database, running: Simulator, api: ManagementApi, agents: Any, owner: Any, clock: ManualClock
) -> World:
    await api.actions.organizations.add(COMMAND_LINE, OrganizationRequest(token=running.owner_token))
    org = running.organization.rpartition("/")[2]
    booked = await api.client.post(f"{running.url}/simulator/book", json={"wait_seconds": 0})
    uri: str = booked.json()["deliveries"][0]["resource"]
    meeting = uri.partition("/invitees/")[0]
    at = meeting.replace("https://api.calendly.com", running.url)
    me = await api.client.get(at, headers={"Authorization": f"Bearer {running.owner_token}"})
    shown = me.json()["resource"]
    host = shown["event_memberships"][0]["user"]
    data = f'{{"uri":"{uri}","scheduled_event":{{"event_type":"{shown["event_type"]}"}}}}'
    [event_id] = await write_events(database, org, 1, subject=uri, data=data.encode())
    await owner.execute(
        "INSERT INTO slotwire.bookings (invitee, org, revision, state, chain_key, chain_root, old_invitees,"
        " new_invitees, marks, clears, hosts, scheduled_event, changed_at)"
        " VALUES ($1, $2, 1, 'active', 'k', $1, '{}', '{}', '[]', '[]', $3, $4, $5)",
        *(uri, org, [host], meeting, NOW),
    )
    return World(running, api, agents, owner, clock, org, host, meeting, uri, event_id)


async def test_a_handler_reads_what_its_event_is_about(world: World) -> None:
    """Meeting, invitee, event type and host are filled in, and the audit names agent, event and operation."""
    async with ControlClient(world.api.url) as control:
        calendly = world.calendly(control)
        meeting = await calendly.call("get-scheduled-event")
        assert meeting["resource"]["uri"] == world.meeting
        invitees = await calendly.call("list-event-invitees", status="active")
        assert [each["uri"] for each in invitees] == [world.invitee]
        invitee = await calendly.call("get-scheduled-event-invitees", event_uuid=world.meeting)
        assert invitee["resource"]["uri"] == world.invitee
        offered = await calendly.call("list-event-types", active=True)
        assert {each["profile"]["owner"] for each in offered} == {world.host}
    rows = await world.owner.fetch(
        "SELECT actor, org, target, result FROM slotwire.audit WHERE action = 'calendly.call'"
    )
    actor = f"agent planner {world.event_id}"
    assert {tuple(row) for row in rows if row["target"] == "get-scheduled-event"} == {
        (actor, world.org, "get-scheduled-event", "started"),
        (actor, world.org, "get-scheduled-event", "done"),
    }
    kept = await world.owner.fetch("SELECT agent, org, user_uri FROM slotwire.call_grants")
    assert [tuple(row) for row in kept] == [("planner", world.org, world.host)]


@pytest.mark.parametrize(
    ("operation", "values", "code"),
    [
        ("list-user-busy-times", {"user": "https://api.calendly.com/users/ANOTHER"}, "not_granted"),
        ("get-scheduled-event", {"uuid": "ANOTHER"}, "not_granted"),
        ("list-scheduled-events", {"organization": "https://api.calendly.com/organizations/ANOTHER"}, "not_granted"),
        ("list-scheduled-events", {"invitee_email": "a@example.com"}, "not_granted"),
        ("create-scheduled-event-cancellation", {}, "not_granted"),
        ("list-organization-memberships", {}, "not_granted"),
        ("no-such-operation", {}, "not_granted"),
        ("list-user-busy-times", {}, "call_invalid"),
    ],
    ids=lambda part: str(part) if isinstance(part, str) else "-".join(part) or "plain",
)
def test_a_grant_is_for_its_event_and_nothing_else(operation: str, values: dict[str, str], code: str) -> None:
    """Another user, meeting or organization, a change and an unknown operation are refused before Calendly is asked."""
    from slotwire.ingest.control.calendly_client import operations
    from slotwire.ingest.foundation import operation_table
    from slotwire.ingest.operate.actions.granted_calls import CallGrant, pinned
    from slotwire.ingest.operate.calendly_models import GrantedCall

    at = "https://api.calendly.com"
    grant = CallGrant("a", UUID(int=1), "ORG", f"{at}/users/U", f"{at}/scheduled_events/E", None, f"{at}/x/I")
    request = GrantedCall(operation=operation, values={name: [each] for name, each in values.items()})

    def prepared() -> None:
        filled = pinned(grant, request)
        operations.prepare(operation_table.operation(operation), filled)

    with pytest.raises(RequestRefused) as caught:
        prepared()
    assert caught.value.code == code


async def test_a_grant_ends(world: World) -> None:
    """After a quarter of an hour it opens nothing and is removed; nor does one from a time to come, or a forged one."""
    async with ControlClient(world.api.url) as control:
        calendly, calls = world.calendly(control), ControlledCalls(world.agents, control, agent="b", clock=world.clock)
        await calendly.call("get-scheduled-event")
        grant = await calls.grant(world.event_id)
        world.clock.advance(timedelta(minutes=15))
        with pytest.raises(RequestRefused, match="no such grant") as caught:
            await calls.call(grant, "get-scheduled-event", {})
        assert caught.value.code == "unauthenticated"
        assert not await world.owner.fetchval("SELECT EXISTS (SELECT FROM slotwire.call_grants)")
        await calendly.call("get-scheduled-event")  # a handler that works for long gets another one
        later = ManualClock(world.clock.now() + timedelta(minutes=6))
        calls = ControlledCalls(world.agents, control, agent="planner", clock=later)
        with pytest.raises(RequestRefused, match="no such grant"):
            await EventCalendly(calls, world.event_id).call("get-scheduled-event")
        with pytest.raises(RequestRefused, match="does not have this event"):
            await world.calendly(control, UUID(int=7)).call("get-scheduled-event")
    key = await world.api.key()
    for path in (CALLS, ACTS):
        answer = await world.api.ask("POST", path, key, json={"operation": "get-scheduled-event", "values": {}})
        assert answer.status_code == 401, "a key of the management API is no grant"
    digest = hashlib.sha256(b"x").digest()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.agents.execute("INSERT INTO slotwire.call_grants (hash) VALUES ($1)", digest)


async def test_without_control_the_event_waits(world: World) -> None:
    """No address, or nobody there: the event is tried again, and the doctor says so."""
    async with ControlClient("") as none, ControlClient("http://127.0.0.1:1") as nobody:
        with pytest.raises(ConfigurationError, match="no way to Calendly"):
            await world.calendly(none).call("get-scheduled-event")
        with pytest.raises(ControlUnavailable, match="does not answer"):
            await world.calendly(nobody).call("get-scheduled-event")
    found = await calls_of_agents(Settings(agents=AgentsSettings(control_url=world.api.url)))
    assert (found.check, found.state) == ("calls", "ok")
    with pytest.raises(ControlUnavailable):
        await calls_of_agents(Settings(agents=AgentsSettings(control_url="http://127.0.0.1:1")))
    async with ControlClient(world.api.url) as control:
        await world.owner.execute("UPDATE slotwire.connections SET state = 'revoked', reason = 'test'")
        with pytest.raises(RequestRefused) as caught:
            await world.calendly(control).call("get-scheduled-event")
        assert caught.value.code == "connection_unable"


async def test_a_handler_cancels_its_meeting_once(world: World) -> None:
    """However often it is asked, by the agent that may; what is not the event's, and who may not, is refused."""
    async with ControlClient(world.api.url) as control:
        calendly = world.calendly(control)
        first = await calendly.act("cancel", reason="The host is ill")
        again = await world.calendly(control).act("cancel", reason="The host is ill")
        assert (first["state"], first["scheduled_event"], again["id"]) == ("done", world.meeting, first["id"])
        assert first["idempotency_key"] == f"planner:{world.event_id}:cancel"
        shown = await calendly.call("get-scheduled-event")
        assert (shown["resource"]["status"], shown["resource"]["cancellation"]["reason"]) == (
            "canceled",
            "The host is ill",
        )
        for asked in (
            world.calendly(control, agent="another").act("cancel"),
            calendly.act("cancel", scheduled_event="https://api.calendly.com/scheduled_events/ANOTHER", name="2"),
            calendly.act("book", event_type="https://api.calendly.com/event_types/ANOTHER", name="3"),
            calendly.act("delete"),
        ):
            with pytest.raises(RequestRefused) as caught:
                await asked
            assert caught.value.code == "not_granted"
        with pytest.raises(RequestRefused) as caught:
            await calendly.act("cancel", reason="Another reason")
        assert caught.value.code == "idempotency_key_reused"
    actors = {
        row["actor"] for row in await world.owner.fetch("SELECT actor FROM slotwire.audit WHERE action LIKE 'actions%'")
    }
    assert actors == {"agent planner"}
    used = "SELECT DISTINCT agent, event FROM slotwire.uses WHERE action = $1"
    rows = await world.owner.fetch(used, "create-scheduled-event-cancellation")
    assert [tuple(row) for row in rows] == [("planner", world.event_id)]


async def test_a_handler_takes_back_its_own_mark_only(world: World) -> None:
    """A mark of its own receipt is cleared once; one that somebody else has set is left, and none is none."""
    key = await world.api.key()

    async def by_operator(**action: str) -> dict[str, Any]:
        body = {"organization": world.org, "idempotency_key": action["verb"], "action": action}
        return dict((await world.api.ask("POST", "/v1/actions", key, json=body)).json())

    async with ControlClient(world.api.url) as control:
        calendly = world.calendly(control)

        async def refused(code: str = "no_own_mark", **more: str) -> None:
            with pytest.raises(RequestRefused) as caught:
                await calendly.act("clear_no_show", name="refused", **more)
            assert caught.value.code == code

        await refused()
        others = await by_operator(verb="mark_no_show", invitee=world.invitee)
        assert (await calendly.act("mark_no_show"))["state"] == "done_by_other"
        await refused()
        await refused(mark=others["mark"])
        assert (await by_operator(verb="clear_no_show", mark=others["mark"]))["state"] == "done"
        own = await calendly.act("mark_no_show", name="again")
        assert (own["state"], own["mark"] != others["mark"]) == ("done", True)
        await refused("not_granted", mark=others["mark"])
        cleared = await calendly.act("clear_no_show")
        assert cleared["state"] == "done"
        assert (await calendly.act("clear_no_show"))["id"] == cleared["id"]
        shown = await calendly.call("get-scheduled-event-invitees")
        assert shown["resource"]["no_show"] is None


async def test_a_handler_books_and_moves_once(world: World) -> None:
    """A slot of the event's own event type, and the event's booking, once each, however often a run asks."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=40)
    guest = {"email": "guest@example.com", "invitee_name": "Guest", "timezone": "Europe/Berlin"}
    async with ControlClient(world.api.url) as control:

        async def twice(verb: str, **details: Any) -> dict[str, Any]:
            """Ask in two runs."""
            first, again = [await world.calendly(control).act(verb, **details) for _ in range(2)]
            assert (first["state"], again["id"], again["calls"]) == ("done", first["id"], 1)
            return dict(first)

        booked = await twice("book", start_time=start, **guest)
        moved = await twice("reschedule", start_time=start + timedelta(days=1))
        assert len({world.invitee, booked["invitee"], moved["invitee"]}) == 3
        shown = await world.calendly(control).call("get-scheduled-event-invitees")
        assert shown["resource"]["status"] == "canceled"
