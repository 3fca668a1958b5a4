"""The one writer: what each of its checks is for. Each test shows the loss without the check, then none with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from pydantic import SecretStr

from slotwire.ingest.errors import DatabaseUnavailable, LeadershipLost, RowRefused, SchemaMismatch, SlotwireError
from slotwire.ingest.foundation.clock import ManualClock, SystemClock
from slotwire.ingest.foundation.postgres import Connection, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.log.batch import BookingKey, OverdueClear
from slotwire.ingest.log.booking import Booking
from slotwire.ingest.log.normalize import Fact
from slotwire.ingest.log.writer import Writer
from tests.support.door import add_organization, let_in, plant
from tests.support.public_endpoint import invitee_body, new_invitee, settings_for
from tests.support.writing import DELIVERIES, all_overdue

MARKED = "2026-11-23T09:59:58.500000Z"
CLEARED = "2026-11-23T10:00:00Z"
WAIT = timedelta(minutes=15)
ROUNDS = 8
"""Failures in a row: twice as many as starts that quarantine a delivery."""
ONLY_WHAT_MOVES = (
    ("(h.epoch, h.version) = (p_epoch, p_version)", "p_results = '{}' OR (h.epoch, h.version) = (p_epoch, p_version)"),
    ("epoch, p_position, p_total,", "epoch, greatest(h.position, p_position), greatest(h.total, p_total),"),
)
"""Only an append that moves the head is compared with it: a chore's is not."""
ANY_REVISION = ("IF v_rows <> (SELECT count(*)", "IF false AND v_rows <> (SELECT count(*)")
"""Bookings that changed since they were read are written over."""


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection of the owner, with organization A made known."""
    connection = await asyncpg.connect(database.owner_url)
    await add_organization(connection)
    yield connection
    await connection.close()


def writer_of(database: Database, kind: type[Writer] = Writer) -> Writer:
    """Make a writer of shard 0."""
    return kind(settings_for(database), 0, SystemClock())


async def written(writer: Writer) -> None:
    """Take over, and write until nothing waits."""
    await writer.take_over()
    while await writer.step():
        pass


async def outcomes(owner: Connection) -> list[str]:
    """Return what became of each delivery, in their order."""
    return [row["outcome"] for row in await owner.fetch(f"SELECT outcome FROM {DELIVERIES} AS d ORDER BY position")]


async def types(owner: Connection) -> list[str]:
    """Return the events of the log by their names, in its order."""
    rows = await owner.fetch("SELECT type FROM slotwire.events ORDER BY position")
    return [row["type"].removeprefix("com.calendly.").removesuffix(".v1") for row in rows]


class Paused(Writer):
    """Waits between what it has read and its append, as a process that sleeps."""

    reached: asyncio.Event
    go_on: asyncio.Event

    def __init__(self, settings: Settings, shard: int, clock: SystemClock | ManualClock) -> None:
        super().__init__(settings, shard, clock)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def _call(self, name: str, *arguments: object) -> Any:
        if name == "append":
            self.reached.set()
            await self.go_on.wait()
        return await super()._call(name, *arguments)


async def _former_leader(database: Database, owner: Connection) -> SlotwireError | None:
    """Let a leader sleep before its append of an overdue clear, while its successor writes the mark of that clear."""
    invitee, later = new_invitee(), datetime.now(UTC) + timedelta(hours=1)
    await let_in(owner, invitee_body("invitee_no_show.deleted", invitee=invitee, told_at=CLEARED, no_show=None))
    await written(first := writer_of(database))
    await first.close()
    former = writer_of(database, Paused)
    assert isinstance(former, Paused)
    await former.take_over()
    chore = asyncio.ensure_future(all_overdue(former, later))
    await former.reached.wait()
    mark = {"uri": "https://api.calendly.com/invitee_no_shows/1", "created_at": MARKED}
    await let_in(owner, invitee_body("invitee_no_show.created", invitee=invitee, no_show=mark))
    await written(successor := writer_of(database))
    former.go_on.set()
    await asyncio.wait([chore])
    await former.close()
    await successor.close()
    problem = chore.exception()
    assert problem is None or isinstance(problem, SlotwireError)
    return problem


async def test_a_former_leader_s_chore_is_fenced(database: Database, owner: Connection) -> None:
    """An overdue clear moves no position, and is refused all the same: its mark has come, and told it already."""
    assert isinstance(await _former_leader(database, owner), LeadershipLost)
    assert sorted(await types(owner)) == ["invitee.created", "invitee_no_show.created", "invitee_no_show.deleted"]


async def test_a_chore_that_is_not_compared_would_tell_a_clear_twice(database: Database, owner: Connection) -> None:
    """Without epoch and version the revision still refuses it; without that too, the clear is told twice."""
    await plant(owner, "append", *ONLY_WHAT_MOVES)
    problem = await _former_leader(database, owner)
    assert isinstance(problem, DatabaseUnavailable)
    assert problem.reason == "SW002"
    await plant(owner, "append", ANY_REVISION)
    assert await _former_leader(database, owner) is None
    assert (await types(owner)).count("invitee_no_show.deleted") == 3


class Caching(Writer):
    """Remembers the bookings it has read."""

    def __init__(self, settings: Settings, shard: int, clock: SystemClock | ManualClock) -> None:
        super().__init__(settings, shard, clock)
        self._known: dict[BookingKey, Booking] = {}

    async def _read_bookings(self, facts: Sequence[Fact | OverdueClear]) -> dict[BookingKey, Booking]:
        found = await super()._read_bookings(facts)
        return {key: self._known.setdefault(key, row) for key, row in found.items()}


async def _changed_between(database: Database, owner: Connection, kind: type[Writer]) -> str:
    """Cancel a booking whose chain was given another root since the writer's step before; return its root then."""
    invitee, older = new_invitee(), new_invitee()
    await let_in(owner, invitee_body(invitee=invitee))
    writer = writer_of(database, kind)
    await written(writer)
    await let_in(owner, invitee_body(invitee=invitee, name="Ada"))
    await writer.step()
    await owner.execute(
        "UPDATE slotwire.bookings SET chain_root = $2, revision = revision + 1 WHERE invitee = $1", invitee, older
    )
    await let_in(owner, invitee_body("invitee.canceled", invitee=invitee))
    await writer.step()
    await writer.close()
    root: str = await owner.fetchval("SELECT chain_root FROM slotwire.bookings WHERE invitee = $1", invitee)
    return "changed" if root == older else "written over"


async def test_nothing_is_cached_across_steps(database: Database, owner: Connection) -> None:
    """A booking that changed between two steps is read again, and what changed it stays."""
    assert await _changed_between(database, owner, Writer) == "changed"
    assert await types(owner) == ["invitee.created", "invitee.canceled"]


async def test_a_cache_would_write_back_what_has_changed(database: Database, owner: Connection) -> None:
    """A writer that remembers bookings is refused by their revision; without that it undoes the change."""
    with pytest.raises(DatabaseUnavailable, match="SW002"):
        await _changed_between(database, owner, Caching)
    await plant(owner, "append", ANY_REVISION, ("AND b.revision = r.was", ""))
    assert await _changed_between(database, owner, Caching) == "written over"


class Forgetful(Writer):
    """Does not know of a delivery that it tried alone and outlived."""

    async def take_over(self) -> Any:
        """Take over as a new process does."""
        self._tried = None
        return await super().take_over()


async def _without_partition(database: Database, owner: Connection, kind: type[Writer]) -> list[str]:
    """Let a writer fail again and again for want of a partition; return what became of the deliveries then."""
    await let_in(owner, invitee_body(), invitee_body())
    writer = writer_of(database, kind)
    for _ in range(ROUNDS):
        with pytest.raises(DatabaseUnavailable, match="23514") if kind is Writer else suppress(DatabaseUnavailable):
            await written(writer)
    await writer.leave()
    return await outcomes(owner)


async def test_a_missing_partition_of_the_log_quarantines_nothing(database: Database, owner: Connection) -> None:
    """However often the writer comes back to it; once the partition is there, everything is written."""
    await owner.execute("DROP TABLE slotwire.events_0")
    assert await _without_partition(database, owner, Writer) == ["accepted", "accepted"]
    await owner.fetchval("SELECT slotwire.make_ranges($1, 7)", datetime.now(UTC))
    writer = writer_of(database)
    await written(writer)
    await writer.close()
    assert await outcomes(owner) == ["stored", "stored"]


async def test_a_failure_that_is_outlived_would_count_as_a_death(database: Database, owner: Connection) -> None:
    """A writer that does not know what it has outlived quarantines what a missing partition kept it from writing."""
    await owner.execute("DROP TABLE slotwire.events_0")
    assert "quarantined" in await _without_partition(database, owner, Forgetful)


async def test_a_missing_partition_of_results_quarantines_nothing(database: Database, owner: Connection) -> None:
    """As above, where even the quarantine's result has no place."""
    await owner.execute("DROP TABLE slotwire.results_0")
    assert await _without_partition(database, owner, Writer) == ["accepted", "accepted"]


async def test_an_event_only_a_newer_version_knows_holds_what_follows_and_nothing_before(
    database: Database, owner: Connection
) -> None:
    """What was accepted before it is written; it and what follows wait, however often one looks."""
    await let_in(owner, invitee_body())
    newer = {
        "id": str(uuid4()),
        "type": "com.slotwire.newer.v1",
        "subject": "x",
        "key": "x",
        "time": CLEARED,
        "data": {},
    }
    await let_in(owner, orjson.dumps(newer), origin="own")
    await let_in(owner, invitee_body())
    writer = writer_of(database)
    for _ in range(ROUNDS):
        with pytest.raises(SchemaMismatch, match=r"com\.slotwire\.newer\.v1"):
            await written(writer)
    await writer.close()
    assert await outcomes(owner) == ["stored", "accepted", "accepted"]


async def test_a_clear_that_is_refused_does_not_hold_back_the_others(database: Database, owner: Connection) -> None:
    """Of three overdue clears one cannot be stored: the other two are published, and it follows once it can."""
    invitees = [new_invitee() for _ in range(3)]
    for each in invitees:
        await let_in(owner, invitee_body("invitee_no_show.deleted", invitee=each, told_at=CLEARED, no_show=None))
    writer = writer_of(database)
    await written(writer)
    await owner.execute(
        f"ALTER TABLE slotwire.events_0 ADD CONSTRAINT refused CHECK (subject <> '{invitees[1]}') NOT VALID"
    )
    later = datetime.now(UTC) + timedelta(hours=1)
    told = [each for appended in await all_overdue(writer, later) for each in appended.rows]
    assert {row.subject for row in told} == {invitees[0], invitees[2]}
    await owner.execute("ALTER TABLE slotwire.events_0 DROP CONSTRAINT refused")
    [last] = [each for appended in await all_overdue(writer, later) for each in appended.rows]
    assert last.subject == invitees[1]
    await writer.close()


async def test_a_value_that_cannot_be_sent_is_the_data_s_fault(database: Database) -> None:
    """What asyncpg refuses to write never becomes storable, so it counts as refused and not as an outage."""
    connection = await asyncpg.connect(database.runtime_url)
    with pytest.raises(RowRefused), translated():
        await connection.fetchval("SELECT $1::text", "\ud800")
    with pytest.raises(RowRefused), translated():
        await connection.fetchval("SELECT $1::smallint", 1 << 20)
    await connection.close()


async def test_on_another_server_nothing_is_appended_before_it_is_adopted(
    database: Database, owner: Connection
) -> None:
    """After a restore the writer refuses to append; adopted, its positions are beyond what was published."""
    await let_in(owner, invitee_body())
    await owner.execute("UPDATE slotwire.heads SET server = 'another/1'")
    writer = writer_of(database)
    head = await writer.take_over()
    assert not head.same_server
    with pytest.raises(DatabaseUnavailable, match="another server"):
        await writer.step()
    assert await outcomes(owner) == ["accepted"]
    await writer.take_over()
    await writer.adopt_server(500)
    [appended] = await writer.step()
    assert appended.positions == [501]
    await writer.close()
    head = await writer.take_over()
    assert head.same_server
    await writer.close()


async def test_positions_go_on_beyond_what_was_published_on_every_shard(database: Database, owner: Connection) -> None:
    """Two shards adopt at once: the one that published less does not take the counter back."""
    first, second = await asyncpg.connect(database.runtime_url), await asyncpg.connect(database.runtime_url)
    await asyncio.gather(
        first.execute("SELECT slotwire.pass_over_positions(900)"),
        second.execute("SELECT slotwire.pass_over_positions(300)"),
    )
    assert await owner.fetchval("SELECT nextval('slotwire.positions')") == 901
    await first.close()
    await second.close()


async def test_writers_of_two_shards_meet_nowhere(database: Database, owner: Connection) -> None:
    """Organizations of two shards are told of the same invitees, and both write at once: each has its own rows."""
    await owner.execute(
        "DROP SEQUENCE slotwire.accepted_0, slotwire.accepted_bytes_0; DELETE FROM slotwire.heads;"
        " DELETE FROM slotwire.log; SELECT slotwire.make_log(gen_random_uuid(), 2::smallint, now())"
    )
    await add_organization(owner, "B", shard=1)
    uris = [new_invitee() for _ in range(20)]
    for shard, org in enumerate("AB"):
        await let_in(owner, *[invitee_body(invitee=uri) for uri in uris], org=org, shard=shard)
        await let_in(owner, *[invitee_body("invitee.canceled", invitee=uri) for uri in uris], org=org, shard=shard)
    writers = [Writer(settings_for(database), shard, SystemClock()) for shard in range(2)]
    await asyncio.gather(*map(written, writers))
    for writer in writers:
        await writer.close()
    rows = await owner.fetch("SELECT org, invitee, state, revision FROM slotwire.bookings")
    assert {(row["org"], row["invitee"], row["state"], row["revision"]) for row in rows} == {
        (org, uri, "canceled", 2) for org in "AB" for uri in uris
    }
    assert await owner.fetchval("SELECT count(*) FROM slotwire.events") == 4 * len(uris)
    assert await owner.fetchval("SELECT count(DISTINCT position) FROM slotwire.events") == 4 * len(uris)


async def test_an_append_of_a_former_leader_is_refused(database: Database, owner: Connection) -> None:
    """It read what comes next, another one took over and wrote it: nothing of it goes in, and it says so."""
    await let_in(owner, invitee_body())
    former = writer_of(database, Paused)
    assert isinstance(former, Paused)
    await former.take_over()
    step = asyncio.ensure_future(former.step())
    await former.reached.wait()
    await written(successor := writer_of(database))
    former.go_on.set()
    with pytest.raises(LeadershipLost):
        await step
    await successor.close()
    assert await outcomes(owner) == ["stored"]
    assert await types(owner) == ["invitee.created"]


async def test_an_append_whose_leader_is_gone_goes_in_before_the_next_epoch_or_never(
    database: Database, owner: Connection
) -> None:
    """Its transaction runs on while a successor takes over: it is undone, and the successor writes the delivery."""
    await let_in(owner, invitee_body())
    stopper = await asyncpg.connect(database.owner_url)
    await stopper.execute("BEGIN; LOCK TABLE slotwire.identities IN ACCESS EXCLUSIVE MODE")
    former = writer_of(database)
    await former.take_over()
    step = asyncio.ensure_future(former.step())
    await _until_locked(stopper)
    step.cancel()
    await asyncio.wait([step])
    successor = writer_of(database)
    head = await successor.take_over()
    await stopper.execute("COMMIT")
    while await successor.step():
        pass
    await successor.close()
    await stopper.close()
    assert head.place.position == 0
    assert await outcomes(owner) == ["stored"]
    assert await types(owner) == ["invitee.created"]


async def _until_locked(connection: Connection) -> None:
    async with asyncio.timeout(60):
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass


async def test_the_relay_s_own_role_may_ask_what_waits(database: Database, owner: Connection) -> None:
    """Its bytes are those that the door counts against its limit, until it is written."""
    settings = settings_for(database).model_copy(update={"database_url": SecretStr(database.url_of["relay"])})
    await let_in(owner, invitee_body())
    counted = await owner.fetchval("SELECT total FROM slotwire.deliveries")
    writer = Writer(settings, 0, SystemClock())
    await writer.take_over()
    waiting, _ = await writer.unwritten()
    assert waiting == counted > 256
    await writer.step()
    assert await writer.unwritten() == (0, timedelta())
    await writer.close()
