"""What refusals cost: counts by address and by key, each with its bound."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.refused_addresses import MAX_ADDRESSES, WINDOW_SECONDS, RefusedAddresses
from slotwire.ingest.operate.refusals import MAX_COUNTS, ROW_SECONDS, ROWS, RefusedChanges
from slotwire.ingest.operate.roles import COMMAND_LINE, Principal, Role

FREE = 3


@dataclass
class Seconds:
    """A monotonic clock that stands still until it is moved."""

    at: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.at


@pytest.fixture
def seconds() -> Seconds:
    """The time."""
    return Seconds()


def addresses(seconds: Seconds, *, waiting: int = 1) -> RefusedAddresses:
    """Make a counter whose late answers never come."""
    return RefusedAddresses(FREE, 3600.0, waiting, seconds)


def past(counter: RefusedAddresses, network: str, times: int) -> list[bool]:
    """Count refusals of a network."""
    return [counter.is_past_limit(network) for _ in range(times)]


def test_the_first_refusals_of_a_window_are_free(seconds: Seconds) -> None:
    """FREE refusals in a window, then each is past the limit, until the window has ended; others are not affected."""
    counter = addresses(seconds)
    assert past(counter, "a", FREE + 2) == [False] * FREE + [True] * 2
    assert past(counter, "b", FREE + 1) == [False] * FREE + [True]
    seconds.at += WINDOW_SECONDS - 1
    assert past(counter, "a", 1) == [True]
    seconds.at += 1
    assert past(counter, "a", FREE + 1) == [False] * FREE + [True]


def test_so_many_addresses_are_counted(seconds: Seconds) -> None:
    """MAX_ADDRESSES are remembered; one more, and the one that was refused longest ago begins again."""
    counter = addresses(seconds)
    past(counter, "0", FREE)
    for number in range(1, MAX_ADDRESSES):
        past(counter, str(number), 1)
    assert past(counter, "0", 1) == [True]  # and is the newest now
    past(counter, "one more", 1)
    assert past(counter, "1", FREE) == [False] * FREE
    assert past(counter, "0", 1) == [True]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        (None, "", True),
    ],
)
async def test_who_counts_as_one_sender(one: str | None, other: str | None, same: bool, seconds: Seconds) -> None:
    """An IPv4 address, or the 64 bits that one site of IPv6 has."""
    counter = addresses(seconds, waiting=0)
    for _ in range(FREE):
        await counter.refuse(one)
    if same:
        with pytest.raises(RequestRefused):
            await counter.refuse(other)
    else:
        await counter.refuse(other)


async def test_so_many_wait_for_their_refusal(seconds: Seconds) -> None:
    """Past the limit an answer waits; where as many wait as may, another is refused; one that left makes room."""
    counter = addresses(seconds, waiting=2)
    for _ in range(FREE):
        await counter.refuse("192.0.2.1")
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(counter.refuse("192.0.2.1")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RequestRefused) as caught:
            await counter.refuse("192.0.2.1")
        assert caught.value.code == "too_many_refusals"
        assert not any(task.done() for task in held)
        held.pop().cancel()
        await asyncio.sleep(0)
        held.append(group.create_task(counter.refuse("192.0.2.1")))
        await asyncio.sleep(0)
        assert not any(task.done() for task in held)
        for task in held:
            task.cancel()


def refuse(changes: RefusedChanges, who: Principal, times: int = 1) -> int:
    """Refuse a caller; return how many refusals got a row of their own."""
    rows = 0
    for _ in range(times):
        if changes.has_room(who):
            changes.take(who)
            rows += 1
        else:
            assert changes.count(who, "ORG", "keys.create", "role_too_low")
    return rows


def test_the_first_refused_changes_have_rows(seconds: Seconds) -> None:
    """ROWS of a key's refusals have a row each, then one each ROW_SECONDS; the others are counted; other keys too."""
    changes, one, other = RefusedChanges(now=seconds), *(Principal(Role.READER, None, uuid4()) for _ in range(2))
    assert refuse(changes, one, ROWS) == ROWS
    assert refuse(changes, one, 470) == 0
    assert refuse(changes, other, 2) == 2
    assert list(changes.take_counts().values()) == [470]
    assert changes.take_counts() == {}
    seconds.at += ROW_SECONDS - 0.1
    assert refuse(changes, one) == 0
    seconds.at += 0.2
    assert refuse(changes, one, 2) == 1
    seconds.at += ROW_SECONDS * ROWS * 2
    assert refuse(changes, one, ROWS + 1) == ROWS


def test_commands_have_a_row_each(seconds: Seconds) -> None:
    """Whoever has the database's address is not limited, and is never counted."""
    changes = RefusedChanges(now=seconds)
    assert refuse(changes, COMMAND_LINE, ROWS * 2) == ROWS * 2
    assert changes.count(COMMAND_LINE, None, "keys.create", "x") is False


def test_so_many_sorts_are_counted(seconds: Seconds) -> None:
    """MAX_COUNTS sorts of refusals; another one is to get a row of its own, and one that is counted goes on."""
    changes = RefusedChanges(now=seconds)
    callers = [Principal(Role.READER, None, UUID(int=number)) for number in range(MAX_COUNTS + 1)]
    assert all(changes.count(who, None, "a.b", "c") for who in callers[:-1])
    assert not changes.count(callers[-1], None, "a.b", "c")
    assert changes.count(callers[0], None, "a.b", "c")


def test_counts_that_are_not_written_stay(seconds: Seconds) -> None:
    """Put back, they are added to what was counted meanwhile."""
    changes, who = RefusedChanges(now=seconds), Principal(Role.READER, None, uuid4())
    changes.count(who, None, "a.b", "c")
    taken = changes.take_counts()
    changes.count(who, None, "a.b", "c")
    changes.put_back(taken)
    assert list(changes.take_counts().values()) == [2]
