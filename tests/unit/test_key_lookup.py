"""Look-ups of keys: however many unknown ones ask, a good one waits for two look-ups at most."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from slotwire.ingest.errors import DatabaseUnavailable, RequestRefused
from slotwire.ingest.foundation.clock import ManualClock
from slotwire.ingest.foundation.postgres import Pool
from slotwire.ingest.operate.api_keys import digest, mint
from slotwire.ingest.operate.key_lookup import MAX_AT_ONCE, MAX_UNKNOWN, MAX_WAITING, UNKNOWN_FOR, KeyLookup

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class SlowDatabase:
    """A pool that answers a look-up when it is told to, and notes what it was asked for."""

    known: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    asked: list[list[bytes]] = field(default_factory=list)
    turns: asyncio.Queue[Exception | None] = field(default_factory=asyncio.Queue)
    knocked: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def fetch(self, _: str, wanted: list[bytes]) -> list[dict[str, Any]]:
        """Look some keys up."""
        self.asked.append(wanted)
        self.knocked.put_nowait(None)
        failure = await self.turns.get()
        if failure is not None:
            raise failure
        return [self.known[key] for key in wanted if key in self.known]

    async def execute(self, *_: object) -> None:
        """Note a use."""

    def add(self) -> str:
        """Make a key known."""
        key = mint().get_secret_value()
        row = {"id": UUID(int=1), "hash": digest(key), "role": "reader", "org": None}
        self.known[digest(key)] = {**row, "revoked_at": None, "last_used_at": NOW}
        return key

    def answer(self, times: int = 1) -> None:
        """Let look-ups be answered."""
        for _ in range(times):
            self.turns.put_nowait(None)


def unknown(count: int) -> list[str]:
    """Make keys that nobody stored."""
    return [mint().get_secret_value() for _ in range(count)]


@pytest.fixture
def database() -> SlowDatabase:
    """A database without keys."""
    return SlowDatabase()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until it is moved."""
    return ManualClock(NOW)


@pytest.fixture
def lookup(database: SlowDatabase, clock: ManualClock) -> KeyLookup:
    """Look-ups in it."""
    return KeyLookup(cast("Pool", database), clock)


async def test_a_good_key_waits_for_two_look_ups_at_most(lookup: KeyLookup, database: SlowDatabase) -> None:
    """A hundred unknown keys wait, one look-up is under way: the good key is in the next one, with all the others."""
    good = database.add()
    first = asyncio.create_task(lookup.recognize(unknown(1)[0]))
    await database.knocked.get()
    others = [asyncio.create_task(lookup.recognize(key)) for key in unknown(100)]
    ours = asyncio.create_task(lookup.recognize(good))
    database.answer(2)
    found = await ours
    assert found is not None
    assert await asyncio.gather(first, *others) == [None] * 101
    assert [len(keys) for keys in database.asked] == [1, 101]


async def test_a_key_that_comes_during_a_look_up_is_looked_up_again(lookup: KeyLookup, database: SlowDatabase) -> None:
    """A key that was revoked while it was looked up for one request is refused to the next one."""
    good = database.add()
    first = asyncio.create_task(lookup.recognize(good))
    await database.knocked.get()
    second = asyncio.create_task(lookup.recognize(good))
    database.answer()
    assert await first is not None
    database.known[digest(good)]["revoked_at"] = NOW
    database.answer()
    assert await second is None
    assert len(database.asked) == 2


async def test_equal_keys_are_looked_up_once(lookup: KeyLookup, database: SlowDatabase) -> None:
    """Many requests with one unknown key cost one look-up, and later ones none."""
    [bad] = unknown(1)
    database.answer()
    assert await asyncio.gather(*(lookup.recognize(bad) for _ in range(50))) == [None] * 50
    assert await lookup.recognize(bad) is None
    assert database.asked == [[digest(bad)]]


async def test_a_no_is_remembered_for_its_time(lookup: KeyLookup, database: SlowDatabase, clock: ManualClock) -> None:
    """Until UNKNOWN_FOR has passed an unknown key costs no look-up; then it costs one."""
    [bad] = unknown(1)
    database.answer(2)
    await lookup.recognize(bad)
    clock.advance(UNKNOWN_FOR - (UNKNOWN_FOR / 1000))
    await lookup.recognize(bad)
    assert len(database.asked) == 1
    clock.advance(UNKNOWN_FOR / 1000)
    await lookup.recognize(bad)
    assert len(database.asked) == 2


async def test_a_revoked_key_is_not_remembered_as_unknown(lookup: KeyLookup, database: SlowDatabase) -> None:
    """A yes is never remembered, so a revocation holds at once."""
    good = database.add()
    database.answer(2)
    assert await lookup.recognize(good) is not None
    database.known[digest(good)]["revoked_at"] = NOW
    assert await lookup.recognize(good) is None


async def test_so_many_are_remembered(lookup: KeyLookup, database: SlowDatabase) -> None:
    """MAX_UNKNOWN unknown keys are remembered; one more, and the oldest is forgotten."""
    keys = unknown(MAX_UNKNOWN + 1)
    database.answer(MAX_UNKNOWN + 5)
    for start in range(0, MAX_UNKNOWN, MAX_AT_ONCE):
        await asyncio.gather(*(lookup.recognize(key) for key in keys[start : start + MAX_AT_ONCE]))
    asked = len(database.asked)
    await lookup.recognize(keys[0])
    assert len(database.asked) == asked
    await lookup.recognize(keys[-1])
    await lookup.recognize(keys[0])
    assert len(database.asked) == asked + 2


async def test_so_many_are_looked_up_at_once(lookup: KeyLookup, database: SlowDatabase) -> None:
    """A look-up takes MAX_AT_ONCE keys; one more is for the next."""
    first = asyncio.create_task(lookup.recognize(unknown(1)[0]))
    await database.knocked.get()
    waiting = [asyncio.create_task(lookup.recognize(key)) for key in unknown(MAX_AT_ONCE + 1)]
    database.answer(3)
    await asyncio.gather(first, *waiting)
    assert [len(keys) for keys in database.asked] == [1, MAX_AT_ONCE, 1]


async def test_so_many_wait(lookup: KeyLookup, database: SlowDatabase) -> None:
    """While MAX_WAITING keys wait behind a look-up, one more is refused at once, and one that waits already is not."""
    keys = unknown(MAX_WAITING)
    first = asyncio.create_task(lookup.recognize(unknown(1)[0]))
    await database.knocked.get()
    waiting = [asyncio.create_task(lookup.recognize(key)) for key in [*keys, keys[0]]]
    refused = asyncio.create_task(lookup.recognize(unknown(1)[0]))
    with pytest.raises(RequestRefused) as caught:
        await refused
    assert caught.value.code == "too_busy"
    database.answer(1 + MAX_WAITING // MAX_AT_ONCE)
    assert set(await asyncio.gather(first, *waiting)) == {None}


async def test_a_failure_fails_those_that_waited_for_it(lookup: KeyLookup, database: SlowDatabase) -> None:
    """While Postgres is away nobody is unknown, nothing is remembered, and the next look-up is made."""
    good = database.add()
    first = asyncio.create_task(lookup.recognize(unknown(1)[0]))
    await database.knocked.get()
    waiting = [asyncio.create_task(lookup.recognize(key)) for key in (good, *unknown(2))]
    database.answer()
    database.turns.put_nowait(OSError())
    found = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [type(item) for item in found] == [type(None), *[DatabaseUnavailable] * 3]
    assert [len(keys) for keys in database.asked] == [1, 3]
    database.answer()
    assert await lookup.recognize(good) is not None


async def test_a_request_that_is_cut_off_takes_nobody_with_it(lookup: KeyLookup, database: SlowDatabase) -> None:
    """Cancelled while it asks for others too: those are asked for again."""
    good = database.add()
    first = asyncio.create_task(lookup.recognize(unknown(1)[0]))
    await database.knocked.get()
    asking = asyncio.create_task(lookup.recognize(unknown(1)[0]))
    other = asyncio.create_task(lookup.recognize(good))
    database.answer()
    assert await first is None
    await database.knocked.get()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    database.answer()
    assert await other is not None
    assert [len(keys) for keys in database.asked] == [1, 2, 1]


@pytest.mark.parametrize("text", ["", "slw_", "slw_" + "A" * 42, "slw_" + "A" * 44, "A" * 5000, "slw_" + "\u00c4" * 43])
async def test_what_is_no_key_is_not_looked_up(text: str, lookup: KeyLookup, database: SlowDatabase) -> None:
    """The form alone refuses it."""
    assert await lookup.recognize(text) is None
    assert database.asked == []
