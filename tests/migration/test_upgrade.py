"""From the version before to this one and back, under load: processes of both at work, on a schema between them."""

from __future__ import annotations

import sys

import pytest

from slotwire.ingest.local.stack import Stack
from tests.support.rollout import Processes, Rollout, rollout
from tests.support.versions import Version

LASTING = ("serve", "relay", "control")


async def migrate(world: Rollout, processes: Processes, step: str) -> str:
    """Take a step of a rollout's migrations."""
    ran = await processes.version.run("migrate", step, env=world.env)
    assert ran.code == 0, ran.stderr
    return ran.stdout


async def roll(world: Rollout, old: Version, new: Version, *, deliveries: int, rounds: int) -> None:
    """Roll the new version out, back and out again, with so many deliveries in each state of things."""
    async with world.running(old, *LASTING, "agents") as before, world.running(new) as after:
        await before.until_ready()
        before.join()
        await after.start(*LASTING)
        async with world.under_load():
            await out_and_back(world, before, after, deliveries=deliveries, rounds=rounds)
            await world.counts.until_more(deliveries)
        await world.check()


async def out_and_back(world: Rollout, before: Processes, after: Processes, *, deliveries: int, rounds: int) -> None:
    """Change versions in the order of the manual; end with the new one."""
    more = world.counts.until_more
    await after.until_problem("the database lacks")
    await more(deliveries)
    assert "9004_post_planted_identities waits" in await migrate(world, after, "--pre")
    await after.until_ready()
    assert await before.are_ready(), "the version before goes on"
    for _ in range(rounds):
        after.join()
        await more(deliveries)
        await before.stop("relay")  # the new one leads
        await more(deliveries)
        await before.start("relay")
        await before.until_ready()
        after.leave()
        await after.stop("relay")
        await more(deliveries)
        await after.start("relay")
        await after.until_ready()
    after.join()
    await before.stop("serve", "relay", "agents")
    await after.start("agents")
    assert "applied 9005_post_planted" in await migrate(world, after, "--post")
    await before.until_problem("migrated past this version")
    await after.until_ready()


async def test_a_release_is_followed_by_this_version_and_comes_back(
    stack: Stack, topic_prefix: str, old: Version, new: Version
) -> None:
    """Every acknowledged delivery is in Kafka and takes effect once; no request fails while versions change."""
    async with rollout(stack, topic_prefix, old) as world:
        await roll(world, old, new, deliveries=40, rounds=1)


@pytest.mark.soak
async def test_versions_change_again_and_again(stack: Stack, topic_prefix: str, old: Version, new: Version) -> None:
    """The long form: ten times out and back, with 500 deliveries in each state."""
    async with rollout(stack, topic_prefix, old) as world:
        await roll(world, old, new, deliveries=500, rounds=10)
        sys.stderr.write(f"{len(world.counts.acknowledged)} deliveries over 21 changes of version: none lost\n")
