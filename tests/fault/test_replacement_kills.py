"""A `control` killed (SIGKILL) at any await of a replacement: the next one goes on, and nothing is lost or doubled."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slotwire.ingest.control.claims import CLAIM
from slotwire.ingest.control.round_records import hurry
from slotwire.ingest.control.signing_keys import renew
from slotwire.ingest.local.databases import Database
from slotwire.ingest.receive.hook_lookup import GRACE
from slotwire.ingest.simulator.draws import Draws
from tests.support.dying_control import NEVER, control_until
from tests.support.guarded_setup import LOST, RESTORED, GuardedSetup, guarded_setup

SAMPLE = 2
SEED = "replacement"
AWAITS = 90
"""Awaits that most rounds of these scenes have."""
OVERLAP_HOURS = 25
"""More than the overlap: a process' clock goes on while it runs."""
MANY = 2_000
"""More awaits than a round has."""


@dataclass(frozen=True)
class Mortals(GuardedSetup):
    """Whose rounds are made by processes of their own."""

    folder: Path

    async def process(self, at: int = NEVER) -> bool:
        """Let a process make the round that is due; was it killed at its n-th await, before the end?"""
        await hurry(self.actions.pool, self.org)
        return (await control_until(self.settings, self.clock, self.folder, "make_round", at)).killed


@pytest.fixture
async def setup(database: Database, tmp_path: Path) -> AsyncIterator[Mortals]:
    """One organization with a subscription that serves."""
    async with guarded_setup(database) as found:
        setup = Mortals(**{name: getattr(found, name) for name in found.__dataclass_fields__}, folder=tmp_path)
        await setup.add()
        await setup.round()
        yield setup


async def resumed(setup: Mortals) -> None:
    """Go on after a kill: the claim ends, and the next process makes its round."""
    await setup.advance(seconds=CLAIM.total_seconds())
    assert not await setup.process()


async def settled(setup: Mortals) -> None:
    """Let the overlap pass, after which the replaced one is deleted."""
    await setup.advance(hours=OVERLAP_HOURS)
    await setup.round()
    await setup.round()


async def known(setup: Mortals) -> dict[str, str]:
    """Return our subscriptions whose deliveries are accepted: Calendly's URI by hook id."""
    rows = await setup.rows(
        "SELECT s.hook_id, s.provider_uri FROM slotwire.subscriptions s"
        " WHERE (s.state <> 'ended' OR s.ended_at > $1)"
        " AND EXISTS (SELECT FROM slotwire.signing_keys k WHERE k.subscription_id = s.id)",
        setup.clock.now() - GRACE,
    )
    return {row["hook_id"]: row["provider_uri"] for row in rows}


async def accepted(setup: Mortals) -> list[str]:
    """Return what Calendly would deliver to now, each of which we must accept."""
    hooks, ours = setup.organizations.subscriptions.hooks, await known(setup)
    active = [item for item in setup.at_calendly() if item.state == "active"]
    for item in active:
        assert hooks.read_url(item.url) in ours, "an orphan: its deliveries would be refused"
    return [item.id for item in active]


async def whole(setup: Mortals) -> str:
    """Return the one subscription that is left, on both sides."""
    [item] = setup.at_calendly()
    [row] = await setup.rows("SELECT provider_uri, state FROM slotwire.subscriptions WHERE state <> 'ended'")
    assert (row["state"], row["provider_uri"].rpartition("/")[2]) == ("active", item.id)
    return item.id


async def rotations(setup: Mortals, places: list[int]) -> int:
    """Rotate the key again and again, each time killed at another await; return at how many it came so far."""
    cuts = 0
    for at in places:
        before = await whole(setup)
        await renew(setup.actions.pool, setup.org, setup.clock.now())
        came = await setup.process(at)
        assert before in await accepted(setup), f"seed {SEED}, await {at}: a gap"
        await resumed(setup)
        await settled(setup)
        assert await whole(setup) != before, f"seed {SEED}, await {at}: not replaced"
        assert await setup.told() == [], f"seed {SEED}, await {at}: what we deleted was told as lost"
        cuts += came
        if not came:
            break
    return cuts


async def deletions(setup: Mortals, places: list[int]) -> int:
    """Delete the replaced one, each time killed at another await; return at how many it came so far."""
    cuts = 0
    for at in places:
        before = await whole(setup)
        await renew(setup.actions.pool, setup.org, setup.clock.now())
        await setup.round()
        await setup.advance(hours=OVERLAP_HOURS)
        came = await setup.process(at)
        assert await accepted(setup), f"seed {SEED}, await {at}: a gap"
        await resumed(setup)
        await settled(setup)
        assert await whole(setup) != before, f"seed {SEED}, await {at}: not replaced"
        assert await setup.told() == [], f"seed {SEED}, await {at}: what we deleted was told as lost"
        cuts += came
        if not came:
            break
    return cuts


async def losses(setup: Mortals, places: list[int]) -> int:
    """Lose the subscription, each time killed at another await of the replacement; return how often it came so far."""
    cuts = 0
    for number, at in enumerate(places, start=1):
        await setup.advance(hours=25)  # so that it is not contested
        setup.calendly.engine.ledger.delete_subscription(await whole(setup))
        came = await setup.process(at)
        await accepted(setup)
        await resumed(setup)
        assert await accepted(setup), f"seed {SEED}, await {at}: not replaced"
        await settled(setup)
        await whole(setup)
        told = [kind for kind, _ in await setup.told()]
        assert (told.count(LOST), told.count(RESTORED)) == (number, number), f"seed {SEED}, await {at}"
        cuts += came
        if not came:
            break
    return cuts


SCENES = (rotations, deletions, losses)


def sample() -> list[int]:
    """Draw awaits of a round from the seed."""
    draws = Draws("awaits", SEED)
    return sorted({1 + int(draws.fraction() * AWAITS) for _ in range(SAMPLE)})


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_a_kill_at_some_awaits_is_resumed(scene: object, setup: Mortals) -> None:
    """Killed at awaits drawn from the seed: no orphan, no gap, no double, and each event once."""
    assert callable(scene)
    assert await scene(setup, sample()) >= SAMPLE // 2


@pytest.mark.soak
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_a_kill_at_every_await_is_resumed(scene: object, setup: Mortals) -> None:
    """Killed at every await in turn, until a round comes through."""
    assert callable(scene)
    cuts = await scene(setup, list(range(1, MANY)))
    sys.stdout.write(f"killed at each of {cuts} awaits\n")
    assert AWAITS / 2 < cuts < MANY - 1
