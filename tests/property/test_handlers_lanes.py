"""Order per key: the bookkeeping of lanes, and the dispatcher over them, for every interleaving drawn."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from slotwire.handlers.dispatch.dispatcher import Dispatcher
from slotwire.handlers.dispatch.lanes import Lanes
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.testing import record_of
from tests.support.agent_setup import invitee_created, run_ready_tasks

PLACE = Partition("t", 0)
KEYS = st.integers(0, 3)


@given(st.lists(st.one_of(KEYS.map(lambda key: ("add", key)), KEYS.map(lambda key: ("finish", key))), max_size=60))
def test_a_lane_gives_its_items_one_by_one_in_order(steps: list[tuple[str, int]]) -> None:
    """Whatever is added and finished when, each key has one item at work and its items leave in their order."""
    lanes: Lanes[int, int] = Lanes()
    at_work: dict[int, int] = {}
    waiting: dict[int, list[int]] = defaultdict(list)
    for number, (step, key) in enumerate(steps):
        if step == "add":
            idle = key not in at_work
            assert lanes.add(key, number) is idle
            if idle:
                at_work[key] = number
            else:
                waiting[key].append(number)
        elif key in at_work:
            following = lanes.finish(key)
            assert following == (waiting[key].pop(0) if waiting[key] else None)
            at_work.pop(key)
            if following is not None:
                at_work[key] = following
        assert len(lanes) == len(at_work) + sum(map(len, waiting.values()))
        assert lanes.keys == len(at_work)


@given(
    records=st.lists(st.tuples(KEYS, st.integers(0, 4)), min_size=1, max_size=40),
    batches=st.lists(st.integers(1, 7), min_size=1, max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_keys_run_side_by_side_and_each_in_order(records: list[tuple[int, int]], batches: list[int]) -> None:
    """With handlers of any length, delivered in any batches, no key overtakes itself and everything settles."""
    seen: list[tuple[str, int]] = []
    running: set[str] = set()

    async def handle(record: Record, _: asyncio.Event) -> RecordResult:
        key = (record.key or b"").decode()
        assert key not in running, "two records of one key at once"
        running.add(key)
        for _turn in range(records[record.offset][1]):
            await run_ready_tasks()
        running.remove(key)
        seen.append((key, record.offset))
        return RecordResult(RecordStatus.DONE)

    async def play() -> None:
        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=100, spawn=group.create_task)
            dispatcher.open([PLACE])
            offset = 0
            batch = 0
            while offset < len(records):
                size = batches[batch % len(batches)]
                batch += 1
                chunk = [
                    record_of(invitee_created(str(key), n + 1), offset=n)
                    for n, (key, _) in enumerate(records[offset : offset + size], offset)
                ]
                offset += len(chunk)
                dispatcher.deliver(PLACE, chunk, position=offset)
                await run_ready_tasks()
        assert dispatcher.in_flight == 0
        assert dispatcher.committable() == {PLACE: len(records)}

    asyncio.run(play())
    by_key: dict[str, list[int]] = defaultdict(list)
    for key, offset in seen:
        by_key[key].append(offset)
    assert all(offsets == sorted(offsets) for offsets in by_key.values())
    assert sorted(offset for _, offset in seen) == list(range(len(records)))
