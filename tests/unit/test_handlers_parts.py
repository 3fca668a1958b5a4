"""The parts around one event: room and stopping, the watch, batched calls, problems, lanes and ledgers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from slotwire.handlers.batching import MAX_BATCH_CALLS, CallBatcher, Reply
from slotwire.handlers.consume.watch import Watch
from slotwire.handlers.dispatch.dispatcher import ELSEWHERE_BYTES, MAX_HELD_BYTES, Dispatcher
from slotwire.handlers.dispatch.lanes import Lanes
from slotwire.handlers.problems import Problems
from slotwire.handlers.records import Partition, Record
from slotwire.handlers.results import RecordResult, RecordStatus
from slotwire.handlers.settle.ledger import MAX_TRACKED, OffsetLedger
from slotwire.handlers.testing import record_of
from slotwire.ingest.foundation.errors import TopicUnavailable
from slotwire.ingest.foundation.telemetry import get_logger
from tests.support.agent_setup import invitee_created, run_ready_tasks

ONE, TWO = Partition("t", 0), Partition("t", 1)


def records(partition: Partition, first: int, count: int, *, key: str | None = None) -> list[Record]:
    """Make records of a partition, each of a key of its own unless one is given."""
    return [
        record_of(invitee_created(key or f"{partition.number}-{n}", n + 1), offset=n, partition=partition)
        for n in range(first, first + count)
    ]


class TestDispatcher:
    """Room, order, and stopping."""

    async def test_each_partition_has_an_equal_share_of_the_limit(self) -> None:
        """Two partitions share the limit; a full one is not fetched, and the other still has its room."""
        release = asyncio.Event()

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            del record, stopping
            await release.wait()
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=10, spawn=group.create_task)
            dispatcher.open([ONE, TWO])
            assert dispatcher.rooms() == {ONE: 5, TWO: 5}
            dispatcher.deliver(ONE, records(ONE, 0, 4), position=4)
            assert dispatcher.rooms() == {ONE: 1, TWO: 5}
            dispatcher.deliver(ONE, records(ONE, 4, 1), position=5)
            assert dispatcher.rooms() == {TWO: 5}
            release.set()
        assert dispatcher.rooms() == {ONE: 5, TWO: 5}

    async def test_with_more_partitions_than_the_limit_each_has_one_record(self) -> None:
        """A limit below the number of partitions still lets every one of them move."""

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            del record, stopping
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=1, spawn=group.create_task)
            dispatcher.open([ONE, TWO])
            assert dispatcher.rooms() == {ONE: 1, TWO: 1}

    async def test_records_behind_an_unsettled_one_are_bounded(self) -> None:
        """A record that does not settle lets so many pass it in its partition, and not one more."""
        stuck = asyncio.Event()

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            del stopping
            if record.offset == 0:
                await stuck.wait()
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=4 * MAX_TRACKED, spawn=group.create_task)
            dispatcher.open([ONE])
            dispatcher.deliver(ONE, records(ONE, 0, MAX_TRACKED - 1, key="k"), position=MAX_TRACKED - 1)
            assert dispatcher.rooms() == {ONE: 1}
            dispatcher.deliver(ONE, records(ONE, MAX_TRACKED - 1, 1, key="k"), position=MAX_TRACKED)
            assert dispatcher.rooms() == {}
            assert dispatcher.committable() == {ONE: 0}
            stuck.set()

    async def test_a_slow_key_delays_no_other_key(self) -> None:
        """Other keys of the partition settle while one waits; the commit stays before the one that waits."""
        slow = asyncio.Event()

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            del stopping
            if record.offset == 1:
                await slow.wait()
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=100, spawn=group.create_task)
            dispatcher.open([ONE])
            dispatcher.deliver(ONE, records(ONE, 0, 10), position=12)
            while dispatcher.in_flight > 1:
                dispatcher.changed.clear()
                await dispatcher.changed.wait()
            assert dispatcher.committable() == {ONE: 1}
            slow.set()
        assert dispatcher.committable() == {ONE: 12}

    async def test_what_waits_behind_a_slow_key_takes_no_room_of_others_up_to_a_limit(self) -> None:
        """Of a share of two keys one is slow: what waits behind it is held, and others handled, until it is full."""
        slow, handled = asyncio.Event(), []

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            del stopping
            if record.key == b"slow":
                await slow.wait()
            else:
                handled.append(record.offset)
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=4, max_held=20, spawn=group.create_task)
            dispatcher.open([ONE, TWO])
            dispatcher.deliver(ONE, records(ONE, 0, 9, key="slow"), position=9)
            assert dispatcher.rooms() == {ONE: 1, TWO: 2}
            dispatcher.deliver(ONE, records(ONE, 9, 1), position=10)
            assert dispatcher.rooms() == {TWO: 2}
            while not handled:
                await run_ready_tasks()
            assert dispatcher.rooms() == {ONE: 1, TWO: 2}
            dispatcher.deliver(ONE, records(ONE, 10, 1, key="slow"), position=11)
            assert dispatcher.rooms() == {TWO: 2}
            slow.set()
        assert (handled, dispatcher.committable()) == ([9], {ONE: 11})

    async def test_the_bytes_that_a_partition_holds_are_bounded(self) -> None:
        """A partition whose share is full gets no record until one is settled; what the log has counts, too."""
        release = asyncio.Event()

        async def handle(*_: object) -> RecordResult:
            await release.wait()
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=200, spawn=group.create_task)
            dispatcher.open([ONE, TWO])
            values = (bytes(MAX_HELD_BYTES // 2 - ELSEWHERE_BYTES - 1), None, b"1")
            sized = [replace(*records(ONE, at, 1), value=value) for at, value in enumerate(values)]
            dispatcher.deliver(ONE, sized[:2], position=2)
            assert dispatcher.rooms() == {ONE: 98, TWO: 100}
            dispatcher.deliver(ONE, sized[2:], position=3)
            assert dispatcher.rooms() == {TWO: 100}
            release.set()
        assert dispatcher.rooms() == {ONE: 100, TWO: 100}

    async def test_a_task_is_made_for_who_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keys whose handlers wait for nothing share a task; each of those that wait has one, and all begin."""
        monkeypatch.setattr("slotwire.handlers.dispatch.dispatcher.HOG_SECONDS", 60.0)
        release = asyncio.Event()
        release.set()
        tasks: list[asyncio.Task[None] | None] = []

        async def handle(*_: object) -> RecordResult:
            tasks.append(asyncio.current_task())
            if not release.is_set():
                await release.wait()
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=100, spawn=group.create_task)
            dispatcher.open([ONE])
            for first in (0, 50):
                dispatcher.deliver(ONE, records(ONE, first, 50), position=first + 50)
                while dispatcher.in_flight:
                    await run_ready_tasks()
            assert (len(tasks), len(set(tasks))) == (100, 2)
            release.clear()
            dispatcher.deliver(ONE, records(ONE, 100, 50), position=150)
            while len(tasks) < 150:
                await run_ready_tasks()
            release.set()
        assert len(set(tasks[100:])) == 50
        assert dispatcher.committable() == {ONE: 150}

    async def test_another_organization_s_record_of_the_key_is_not_delayed(self) -> None:
        """Two are told of one resource, so their records have one key; neither waits for the other's."""
        slow = asyncio.Event()

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            del stopping
            if record.offset == 0:
                await slow.wait()
            return RecordResult(RecordStatus.DONE)

        first, second, third = records(ONE, 0, 3, key="k")
        theirs = tuple((name, b"/organizations/B" if name == "ce_source" else value) for name, value in second.headers)
        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=100, spawn=group.create_task)
            dispatcher.open([ONE])
            dispatcher.deliver(ONE, [first, replace(second, headers=theirs), third], position=3)
            await run_ready_tasks()
            assert dispatcher.in_flight == 2
            slow.set()
        assert dispatcher.in_flight == 0

    async def test_a_stop_finishes_running_records_and_starts_none(self) -> None:
        """Within its grace a running handler finishes and settles; what waits behind it in its lane does not run."""
        ran: list[int] = []
        started, release = asyncio.Event(), asyncio.Event()

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            if stopping.is_set():
                return RecordResult(RecordStatus.HANDED_BACK)
            started.set()
            await release.wait()
            ran.append(record.offset)
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=10, spawn=group.create_task)
            dispatcher.open([ONE])
            dispatcher.deliver(ONE, records(ONE, 0, 3, key="k"), position=3)
            await started.wait()
            asyncio.get_running_loop().call_soon(release.set)
            await dispatcher.stop(grace=5)
            assert ran == [0]
            assert dispatcher.committable() == {ONE: 1}
            assert dispatcher.rooms() == {}

    async def test_a_stop_interrupts_handlers_that_run_past_the_grace(self) -> None:
        """A handler that does not finish is interrupted and stays unsettled: it will be delivered again."""
        interrupted = []

        async def handle(record: Record, stopping: asyncio.Event) -> RecordResult:
            del stopping
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                interrupted.append(record.offset)
                raise
            return RecordResult(RecordStatus.DONE)

        async with asyncio.TaskGroup() as group:
            dispatcher = Dispatcher(handle, agent="a", max_in_flight=10, spawn=group.create_task)
            dispatcher.open([ONE])
            dispatcher.deliver(ONE, records(ONE, 0, 2), position=2)
            await run_ready_tasks()
            await dispatcher.stop(grace=0)
            assert sorted(interrupted) == [0, 1]  # keys side by side: which lets go first is nobody's promise
            assert dispatcher.committable() == {ONE: 0}
            dispatcher.close()
            assert dispatcher.committable() == {}


class TestWatch:
    """Lag without progress means a stuck consumer."""

    def look(self, watch: Watch, now: float, position: int, end: int | None = 10, **more: bool) -> str | None:
        """Look at one partition that has room."""
        return watch.look(
            now,
            ends=None if end is None else {ONE: end},
            positions={ONE: position},
            rooms={ONE} if more.get("room", True) else set(),
            assigned=more.get("assigned", True),
        )

    def test_lag_without_progress_is_noticed_at_its_limit(self) -> None:
        """Just before the limit there is no report; at the limit the report names the partition."""
        watch = Watch(30, now=0)
        assert self.look(watch, 0, 5) is None
        assert self.look(watch, 29.9, 5) is None
        assert "t/0 has been at 5 of 10" in (self.look(watch, 30, 5) or "")

    def test_progress_restarts_the_wait(self) -> None:
        """A position that moves, or the end reached, is progress."""
        watch = Watch(30, now=0)
        assert self.look(watch, 0, 5) is None
        assert self.look(watch, 29, 6) is None
        assert self.look(watch, 58, 6) is None
        assert self.look(watch, 60, 6, end=6) is None
        assert self.look(watch, 85, 6) is None
        assert self.look(watch, 91, 6) is not None

    def test_full_lanes_are_not_a_stuck_consumer(self) -> None:
        """Without room, because handlers are slow, or without records to read, the consumer is not stuck."""
        watch = Watch(30, now=0)
        assert self.look(watch, 0, 5) is None
        assert self.look(watch, 40, 5, room=False) is None
        assert self.look(watch, 60, 5) is None
        assert self.look(watch, 71, 5) is not None

    def test_a_rebalance_that_does_not_end_is_noticed(self) -> None:
        """Without an assignment for as long as the limit, the consumer is stuck; with one again it is not."""
        watch = Watch(30, now=0)
        assert self.look(watch, 29, 5, assigned=False) is None
        assert self.look(watch, 29.5, 5) is None
        assert self.look(watch, 59, 6, assigned=False) is None
        assert "rebalance" in (self.look(watch, 60, 7, assigned=False) or "")

    def test_a_silent_broker_is_noticed(self) -> None:
        """A broker that does not answer for as long as the limit ends the membership."""
        watch = Watch(30, now=0)
        assert self.look(watch, 29, 5, end=None) is None
        assert "not answered" in (self.look(watch, 30, 5, end=None) or "")


class TestCallBatcher:
    """Many small calls as few large ones."""

    async def test_calls_during_a_batch_form_the_next_one(self) -> None:
        """The first call is a batch of its own; the calls made meanwhile are the next one."""
        asked: list[tuple[int, ...]] = []

        async def ask(keys: tuple[int, ...], reply: Reply[int, int]) -> None:
            asked.append(keys)
            await run_ready_tasks()
            reply({key: key * 2 for key in keys})

        batcher: CallBatcher[int, int] = CallBatcher(ask)
        first = asyncio.create_task(batcher(0))
        await run_ready_tasks()
        await run_ready_tasks()
        rest = [asyncio.create_task(batcher(n)) for n in range(1, MAX_BATCH_CALLS + 2)]
        assert await asyncio.gather(first, *rest) == [n * 2 for n in range(MAX_BATCH_CALLS + 2)]
        assert list(map(len, asked)) == [1, MAX_BATCH_CALLS, 1]

    async def test_an_error_reaches_the_callers_of_its_batch_only(self) -> None:
        """All callers of a failed batch get its error; the next batch is not affected."""
        fail = True

        async def ask(keys: tuple[int, ...], reply: Reply[int, bool]) -> None:
            if fail:
                raise OSError
            reply(dict.fromkeys(keys, True))

        batcher: CallBatcher[int, bool] = CallBatcher(ask)
        answers = await asyncio.gather(batcher(1), batcher(2), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError, OSError]
        fail = False
        assert await batcher(1) is True

    async def test_a_cancelled_caller_does_not_cancel_the_others(self) -> None:
        """Cancelling the caller that started a batch does not cancel it for the others."""
        release = asyncio.Event()

        async def ask(keys: tuple[int, ...], reply: Reply[int, bool]) -> None:
            await release.wait()
            reply(dict.fromkeys(keys, True))

        batcher: CallBatcher[int, bool] = CallBatcher(ask)
        first, second = asyncio.create_task(batcher(1)), asyncio.create_task(batcher(1))
        await run_ready_tasks()
        first.cancel()
        release.set()
        assert await second is True
        assert first.cancelled()


async def test_a_problem_is_logged_when_it_begins_and_when_it_ends() -> None:
    """Readiness shows a problem while it lasts; the log has one line for its beginning and one for its end."""
    with capture_logs() as logs:
        problems = Problems("a", get_logger("test"))
        problem = TopicUnavailable("topic x is missing", topics=("x",), remedy="Run `slotwire migrate`.")
        for _ in range(3):
            problems.begin("kafka", problem)
        assert await problems.check() == "topic x is missing. Run `slotwire migrate`."
        problems.end("kafka")
        problems.end("kafka")
        assert await problems.check() is None
    assert [line["event"] for line in logs] == ["agent_held", "agent_goes_on"]


def test_an_abandoned_lane_is_empty() -> None:
    """Dropping a lane drops what waits in it, and the next item starts a new one."""
    lanes: Lanes[str, int] = Lanes()
    assert lanes.add("k", 1)
    assert not lanes.add("k", 2)
    lanes.abandon("k")
    assert len(lanes) == 0
    assert lanes.add("k", 3)
    assert lanes.finish("k") is None
    with pytest.raises(KeyError):
        lanes.finish("k")


def test_a_ledger_refuses_impossible_offsets() -> None:
    """An offset out of order, settled twice or never delivered raises ValueError."""
    ledger = OffsetLedger()
    assert ledger.committable() is None
    ledger.deliver(5)
    ledger.settle(5)
    ledger.deliver(7)
    for wrong in (5, 6):
        with pytest.raises(ValueError, match="not in flight"):
            ledger.settle(wrong)
    with pytest.raises(ValueError, match="was delivered after"):
        ledger.deliver(7)
