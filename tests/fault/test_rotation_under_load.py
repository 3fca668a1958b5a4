"""Signing keys rotated and subscriptions replaced while deliveries come: none is refused, none makes two events."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from slotwire.ingest.control import rounds
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import COMMAND_LINE
from slotwire.ingest.simulator.ledger import MessageFilter
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup
from tests.support.public_endpoint import PATIENT_SECONDS

MIX = {"kept": 45, "canceled": 25, "rescheduled": 20, "rescheduled-canceled": 10}
"""Stories in which an invitee has each event once, so that they can be counted by both."""
WAIT_SECONDS = 60.0


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[OrganizationsSetup]:
    """One organization with everything that its deliveries need."""
    async with organizations_setup(database, organizations=1, answer_deadline_seconds=PATIENT_SECONDS) as found:
        await found.add()
        yield found


async def rotated(setup: OrganizationsSetup) -> None:
    """Rotate the key, and make rounds until the old subscription is deleted, because the new one is verified."""
    before = {item.id for item in setup.calendly.engine.ledger.subscriptions()}
    done = await setup.actions.signing_keys.rotate(COMMAND_LINE, setup.org)
    assert (len(done.subscriptions), done.problem) == (1, None)
    async with asyncio.timeout(WAIT_SECONDS):
        while before & {item.id for item in setup.calendly.engine.ledger.subscriptions()}:
            await rounds.run_once(setup.organizations)
    [_] = setup.calendly.engine.ledger.subscriptions()


async def rotations_under_load(
    setup: OrganizationsSetup, *, rate: float, seconds: float = 0, times: int = 1
) -> Counter[str]:
    """Rotate keys while deliveries come; return how often each status was answered, after all was compared."""
    enough = asyncio.Event()

    async def load() -> None:
        number = 0
        while not enough.is_set():  # in pieces, so that it lasts as long as the rotations do
            number += 1
            await setup.simulate("load", count=int(rate), rate=rate, mix=MIX, seed=f"load {number}")

    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        group.create_task(load())
        while times > 0 or loop.time() < until:
            await rotated(setup)
            times -= 1
        enough.set()
    await setup.settled()
    ledger = setup.calendly.engine.ledger
    written, statuses, after = Counter[tuple[str, str]](), Counter[str](), 0
    while page := ledger.listing(MessageFilter(), after, 1_000):
        for message, attempts in page:
            written[message.event, message.resource] += 1
            statuses.update(str(attempt.status or attempt.error) for attempt in attempts)
        after = int(page[-1][0].id[1:])
    rows = await setup.rows(
        "SELECT type, subject, count(*) AS events FROM slotwire.events WHERE type LIKE 'com.calendly.%' GROUP BY 1, 2"
    )
    logged = {(row["type"].removeprefix("com.calendly.").removesuffix(".v1"), row["subject"]): row for row in rows}
    assert logged.keys() == written.keys(), "what Calendly told is not what is in the log"
    assert {row["events"] for row in rows} == {1}, "a delivery made two events"
    assert max(written.values()) > 1, "no delivery came over both subscriptions: nothing was shown"
    return statuses


async def test_a_rotation_refuses_and_doubles_nothing(setup: OrganizationsSetup) -> None:
    """While deliveries come the key is rotated: every attempt is answered 200, and each fact is in the log once."""
    statuses = await rotations_under_load(setup, rate=100)
    assert set(statuses) == {"200"}


@pytest.mark.soak
async def test_rotations_at_200_a_second_refuse_and_double_nothing(setup: OrganizationsSetup) -> None:
    """The same at 200 deliveries a second for two minutes, with rotation after rotation."""
    await setup.simulate("faults", rate_limit=1_000_000)  # so many rotations would pass what a user has
    statuses = await rotations_under_load(setup, rate=200, seconds=120, times=10)
    made = await setup.rows("SELECT count(*) FROM slotwire.subscriptions")
    sys.stdout.write(f"{made[0][0] - 1} rotations, {statuses.total()} deliveries, all answered 200\n")
    assert set(statuses) == {"200"}
