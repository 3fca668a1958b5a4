"""Any interleaving of kills, events, timeouts, decisions and deploys ends every run in one of the stated outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slotwire.handlers.long_work.journal import Entry
from slotwire.handlers.long_work.postgres_journal import PostgresJournal
from slotwire.ingest.foundation.postgres import Pool, create_pool
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from slotwire.schemas.events import InviteeCreated
from tests.support.agent_setup import EFFECTS_SEQUENCE, EFFECTS_TABLE
from tests.support.run_world import CLAIM_SECONDS, DAY, World, answers

ACTIONS = st.lists(
    st.one_of(
        st.sampled_from(["booked", "booked", "ends", "ends", "deploy", "a day", "claims end", "decide"]),
        st.tuples(st.integers(0, 30), st.integers(1, 4)),
    ),
    min_size=4,
    max_size=16,
)
NUMBERS = count()


@pytest.fixture
async def operator(database: Database) -> AsyncIterator[Pool]:
    """Connections of the role of `control`."""
    limits = DatabaseSettings(pool_size=1)
    async with create_pool(database.url_of["control"], limits, application="test") as opened:
        yield opened


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connections of the agents' role, and the ledger of effects."""
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(EFFECTS_TABLE)
    await owner.execute(EFFECTS_SEQUENCE)
    await owner.close()
    limits = DatabaseSettings(pool_size=4)
    async with create_pool(database.url_of["agents"], limits, application="test") as opened:
        yield opened


async def played(
    pool: Pool,
    operator: Pool,
    actions: list[str | tuple[int, int]],
    journal: type[PostgresJournal] = PostgresJournal,
) -> World:
    """Play what a world goes through, and let it come to its end."""
    world = World(pool, operator, next(NUMBERS), journal)
    world.publish(ends=False)
    for action in actions:
        match action:
            case "booked" | "ends":
                world.publish(ends=action == "ends")
            case "deploy":
                world.deploy()
            case "decide":
                await world.decide()
            case "a day":
                world.clock.advance(DAY)
            case "claims end":
                world.clock.advance(CLAIM_SECONDS * DAY / DAY.total_seconds())
            case (moments, records):
                await world.work(moments, records=records)
    await world.finish()
    return world


async def judge(pool: Pool, world: World) -> None:
    """Check that each effect is there once, each step was done once or told, and each wait ended once and rightly."""
    effects = [
        row["sequence"]
        for row in await pool.fetch("SELECT sequence FROM effects WHERE key = $1 ORDER BY n", world.name)
    ]
    assert sorted(effects) == [event.sequence for event in world.log]
    assert await pool.fetchval("SELECT count(*) FROM slotwire.runs WHERE agent = $1", world.name) == 0
    done = Counter(world.outside)
    for event in world.log:
        if not isinstance(event.data, InviteeCreated):
            continue
        here = event.sequence
        told = {what for position, what in done if position == here and what.startswith("told ")}
        if here % 2 == 0:
            assert done[here, "mail"] == 1, "a person who looks makes it once"
            assert told == {f"told {world.decided.get(here, 'expired')}"}, (
                "an approval ends as it was decided, or by time"
            )
            continue
        assert done[here, "charge"] <= 1, "a step without retry is called once"
        assert done[here, "charge"] or done[here, "ask"], "or it is told as unknown"
        later = [each.sequence for each in world.log if each.sequence > here and answers(each)]
        ended = {f"told {later[0]}"} if later else {"told nothing"}
        assert told == ended or (told == {"told nothing"} and here in world.silent), (here, told, later)
        if told == ended and later:
            assert effects.index(here) < effects.index(later[0]), "the run goes on before the event's own handler"


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
async def test_any_interleaving_ends_in_a_stated_outcome(
    pool: Pool, operator: Pool, actions: list[str | tuple[int, int]]
) -> None:
    """Members die between any two calls, events and decisions come, days pass, a version is deployed: once, or told."""
    await judge(pool, await played(pool, operator, actions))


class Late(PostgresJournal):
    """Notes that a step has begun only when it has ended."""

    async def start_step(self, event_id: UUID, epoch: int, number: int, name: str) -> bool:
        """Note nothing yet."""
        self._begun = (event_id, epoch, number, name)
        return True

    async def end_entry(
        self, event_id: UUID, epoch: int, entry: Entry, result: bytes, *, position: int = 0, place: int = -1
    ) -> bool:
        """Note both."""
        if entry.kind == "step":
            assert await super().start_step(*self._begun)
        return await super().end_entry(event_id, epoch, entry, result, position=position, place=place)


class Deaf(PostgresJournal):
    """Notes that a wait has ended by its time, whatever ended it."""

    async def end_entry(
        self, event_id: UUID, epoch: int, entry: Entry, result: bytes, *, position: int = 0, place: int = -1
    ) -> bool:
        """Note the end, and no answer."""
        noted = b"null" if entry.kind == "wait" else result
        return await super().end_entry(event_id, epoch, entry, noted, position=position, place=place)


@pytest.mark.parametrize(("faulty", "first"), [(Late, 9), (Deaf, 23)])
async def test_a_fault_of_the_journal_is_noticed(
    pool: Pool, operator: Pool, faulty: type[PostgresJournal], first: int
) -> None:
    """Worlds in which a member dies about where the fault matters pass; with the fault planted they do not all."""
    worlds: list[list[str | tuple[int, int]]] = [
        ["ends", (moment, 3), "claims end"] for moment in range(first, first + 3)
    ]
    for actions in worlds:
        await judge(pool, await played(pool, operator, actions))

    async def with_the_fault() -> None:
        for actions in worlds:
            await judge(pool, await played(pool, operator, actions, faulty))

    with pytest.raises(AssertionError):
        await with_the_fault()


@pytest.mark.soak
@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
async def test_any_of_many_interleavings_ends_so(
    pool: Pool, operator: Pool, actions: list[str | tuple[int, int]]
) -> None:
    """The long form."""
    await judge(pool, await played(pool, operator, actions))
