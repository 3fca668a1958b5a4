"""What an operator does with a stopped agent: read its dead letters, move where it continues."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from slotwire.handlers import Agent, Reject
from slotwire.handlers.consume.offsets import MAX_SKIPPED
from slotwire.ingest.local.databases import Database
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created, running_agents, until
from tests.support.command import CommandResult, slotwire
from tests.support.management_api import management_api, write_events, write_organization, write_parked
from tests.support.public_endpoint import settings_for

LONG_AGO, TO_COME = ((datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (-2, 2))


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


def refusing(seen: list[int]) -> Agent:
    """An agent that gives up every second event, and notes what it was given."""
    agent = Agent("halves")

    @agent.on(InviteeCreated)
    async def half(event: Event[InviteeCreated], ctx: object) -> Reject | None:
        seen.append(event.sequence)
        return Reject("an odd one") if event.sequence % 2 else None

    return agent


async def run(setup: AgentSetup, seen: list[int], *, offset: int) -> None:
    """Run the agent until its group continues at an offset."""
    async with running_agents(setup.runner(refusing(seen))):

        async def reached() -> bool:
            return await setup.committed(f"{setup.settings.kafka.topic_prefix}halves") == {0: offset}

        await until(reached)


async def typed(setup: AgentSetup, *arguments: str) -> CommandResult:
    """Type a command to its end."""
    return await slotwire(*arguments, env=setup.environment())


async def test_what_was_given_up_is_listed_and_runs_again(setup: AgentSetup) -> None:
    """Each letter with its reason; one with its value; rewound, what was given up runs again and nothing else."""
    seen: list[int] = []
    await setup.publish(*(invitee_created(f"chain{n}", n) for n in (1, 2, 3)))
    await run(setup, seen, offset=4)  # the transaction's marker takes one
    assert sorted(seen) == [1, 2, 3]
    listed = await typed(setup, "dead-letters", "list", "halves", "--json")
    letters = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (listed.code, len(letters)) == (0, 2), listed.stderr
    assert {(each["reason"], each["attempts"], each["type"]) for each in letters} == {
        ("an odd one", 1, "com.calendly.invitee.created.v1")
    }
    assert {(each["topic"], each["offset"]) for each in letters} == {(setup.topic, 0), (setup.topic, 2)}
    one = await typed(setup, "dead-letters", "list", "halves", "--limit", "1")
    assert one.stdout.count("after 1 attempt: an odd one") == 1
    assert letters[0]["id"] in one.stdout
    shown = json.loads((await typed(setup, "dead-letters", "show", letters[0]["id"], "--json")).stdout)
    assert json.loads(shown["value"])["uri"] == letters[0]["subject"]
    assert {"name": "ce_id", "value": letters[0]["event_id"]} in shown["headers"]
    assert letters[0]["subject"] in (await typed(setup, "dead-letters", "show", letters[0]["id"])).stdout
    assert {dict(each.headers)["ce_id"].decode() for each in await setup.dead_letters("halves", 2)} == {
        each["event_id"] for each in letters
    }, "the topic has them, too"

    moved = await typed(setup, "agents", "rewind", "halves", "--to", LONG_AGO, "--json")
    assert [json.loads(line) for line in moved.stdout.splitlines()] == [
        {"topic": setup.topic, "partition": 0, "before": 4, "after": 0, "end": 4}
    ]
    await run(setup, seen, offset=4)
    assert sorted(seen[3:]) == [1, 3]


async def test_a_rewind_never_goes_forward(setup: AgentSetup) -> None:
    """To a time after which nothing was written, or of later records, an agent stays where it is."""
    seen: list[int] = []
    await setup.publish(invitee_created("chain", 2))
    await run(setup, seen, offset=2)
    stays = await typed(setup, "agents", "rewind", "halves", "--to", TO_COME)
    assert stays.stdout == f"{setup.topic} 0  stays at 2 of 2\n"


async def test_a_stopped_agent_goes_past_records(setup: AgentSetup) -> None:
    """Past as many as it is told, and at most to the end."""
    seen: list[int] = []
    await setup.publish(invitee_created("chain", 2))
    await run(setup, seen, offset=2)
    await setup.publish(*(invitee_created("chain", n) for n in (4, 6)))
    place = ("--topic", setup.topic, "--partition", "0")
    assert (await typed(setup, "agents", "skip", "halves", *place)).stdout == f"{setup.topic} 0  2 -> 3 of 5\n"
    await run(setup, seen, offset=5)
    assert seen == [2, 6]
    await setup.publish(invitee_created("chain", 8))
    far = await typed(setup, "agents", "skip", "halves", *place, "--records", str(MAX_SKIPPED))
    assert far.stdout == f"{setup.topic} 0  5 -> 7 of 7\n"


async def test_a_running_agent_is_not_moved(setup: AgentSetup) -> None:
    """It would overwrite the place: the command says to stop it, and changes nothing."""
    seen: list[int] = []
    await setup.publish(invitee_created("chain", 2))
    async with running_agents(setup.runner(refusing(seen))):
        group = f"{setup.settings.kafka.topic_prefix}halves"

        async def reached() -> bool:
            return await setup.committed(group) == {0: 2}

        await until(reached)
        refused = await typed(setup, "agents", "rewind", "halves", "--to", LONG_AGO)
        assert refused.code == 1
        assert "agent halves runs" in refused.stderr
        assert await setup.committed(group) == {0: 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dead-letters", "show", str(UUID(int=0))), "no such dead letter within reach"),
        (("dead-letters", "redrive"), "give dead letters' ids, or --all with an agent"),
        (("agents", "rewind", "nobody", "--to", LONG_AGO), "no agent nobody has read anything"),
        (("agents", "skip", "nobody", "--topic", "calendly.invitee", "--partition", "0"), "is no topic of events"),
    ],
)
async def test_a_mistake_is_told(setup: AgentSetup, arguments: tuple[str, ...], words: str) -> None:
    """An agent that nobody knows, or something that is no letter: one clear line, and what to give instead."""
    refused = await typed(setup, *arguments)
    assert refused.code == 1
    assert words in refused.stderr
    assert "Give" in refused.stderr or "redrive ID..." in refused.stderr


async def test_a_parked_event_is_listed_and_settled(database: Database) -> None:
    """Until somebody settles it, and then it is gone from the list and still in the log; another's is not seen."""
    async with management_api(settings_for(database)) as api:
        for org in ("ORG", "OTHER"):
            await write_organization(database, org)
        [mine], [theirs] = [await write_events(database, org, 1) for org in ("ORG", "OTHER")]
        for each in (mine, theirs):
            await write_parked(database, each)
        admin, bound = await api.key(), await api.key(org="ORG")
        seen = (await api.ask("GET", "/v1/parked-events", admin)).json()["items"]
        assert {each["id"] for each in seen} == {str(mine), str(theirs)}
        first = (await api.ask("GET", "/v1/parked-events?limit=1", admin)).json()
        rest = (await api.ask("GET", f"/v1/parked-events?limit=1&cursor={first['next_cursor']}", admin)).json()
        assert [*first["items"], *rest["items"]] == seen
        assert rest["next_cursor"] is None
        [own] = (await api.ask("GET", "/v1/parked-events", bound)).json()["items"]
        assert (own["id"], own["reason"]) == (str(mine), "message_size_too_large")
        assert (await api.ask("POST", f"/v1/parked-events/{theirs}/settle", bound)).status_code == 404
        assert (await api.ask("POST", f"/v1/parked-events/{mine}/settle", bound)).json()["id"] == own["id"]
        assert (await api.ask("POST", f"/v1/parked-events/{mine}/settle", bound)).status_code == 200
        assert (await api.ask("GET", "/v1/parked-events", bound)).json()["items"] == []
        assert (await api.ask("GET", f"/v1/events/{mine}", bound)).status_code == 200


async def test_an_event_says_who_has_handled_it(database: Database) -> None:
    """Every agent whose inbox has it, and no other."""
    await write_organization(database, "ORG")
    first, second = await write_events(database, "ORG", 2)
    owner = await asyncpg.connect(database.owner_url)
    try:
        rows = [("crm", first), ("crm", second), ("audit", first), ("zeta", second)]
        at = datetime(2026, 11, 23, 9, tzinfo=UTC)
        await owner.executemany("INSERT INTO slotwire.inbox VALUES ($1, $2, $3)", [(*row, at) for row in rows])
    finally:
        await owner.close()
    async with management_api(settings_for(database)) as api:
        found = (await api.ask("GET", f"/v1/events/{first}", await api.key())).json()
    assert found["handled"] == [
        {"agent": "audit", "done_at": "2026-11-23T09:00:00Z"},
        {"agent": "crm", "done_at": "2026-11-23T09:00:00Z"},
    ]
