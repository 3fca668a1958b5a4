"""The reschedule assistant and what acts for it die at any await: in the end nobody holds two bookings, or none."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import AsyncIterator
from itertools import count

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.draws import Draws
from tests.support.action_storm import FAULTS, WEBHOOKS
from tests.support.moved_bookings import MovedBookings, moved_bookings

SAMPLE = 4
AWAITS = 170
"""Awaits of most runs that come to an end."""
STEP = 4
"""In the long form, from one await to the next of the same part."""


@pytest.fixture
async def bookings(database: Database) -> AsyncIterator[MovedBookings]:
    """An organization that is away for a day."""
    async with moved_bookings(database) as made:
        yield made


async def died(bookings: MovedBookings, fault: str, webhook: str, *places: int) -> int:
    """Have a booking moved by members that die at these places, then by some that do not; return the first's waits."""
    record, setup = await bookings.booked(), bookings.setup
    await setup.faults(booking_webhook=webhook, **FAULTS[fault])
    bookings.waits = 0
    for place in places:
        await bookings.life(record, place)
        await setup.advance(seconds=10)
    waits = bookings.waits
    await setup.faults()
    await bookings.to_the_end(record)
    return waits


async def test_some_die_and_each_invitee_holds_one_booking(bookings: MovedBookings) -> None:
    """Drawn from the seed: what is lost, when the webhook comes, where the first and the second life end."""
    for number in range(SAMPLE):
        draws = Draws("moved", 1, number)
        fault, webhook = draws.pick(tuple(FAULTS)), draws.pick(WEBHOOKS)
        await died(bookings, fault, webhook, 1 + draws.below(AWAITS), 1 + draws.below(AWAITS))
    ended = await bookings.check()
    sys.stdout.write(f"{dict(ended)}\n")
    assert ended["done"]


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1, STEP + 1))
@pytest.mark.parametrize("fault", tuple(FAULTS))
async def test_they_die_at_every_await(bookings: MovedBookings, fault: str, first: int) -> None:
    """Whatever is lost of the calls that change something: at every await, until the run comes to its end.

    Each of the parts takes every few places, so that none of them takes longer than some minutes.
    """
    places = 0
    for place in count(first, STEP):
        places += 1
        ended = await died(bookings, fault, WEBHOOKS[place % len(WEBHOOKS)], place)
        with warnings.catch_warnings():  # the libraries forget a connection that is cancelled while it is opened
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        if ended:
            break
    actions = await bookings.check()
    sys.stdout.write(f"{places} awaits up to {place}, what is lost: {fault}, {dict(actions)}\n")
    assert sum(actions.values()) == places
