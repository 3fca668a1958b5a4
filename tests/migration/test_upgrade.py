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
    async with world.running(old, *LASTING, "agents") as before, world.running(new, *LASTING) as after:
        await before.until_ready()
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
    await more(deliveries)
    for _ in range(rounds):
        await before.stop(*before.running)
        if "agents" not in after.running:
            await after.start("agents")
            await after.until_ready()
        await more(deliveries)
        await before.start("serve", "relay")
        await before.until_ready()
        await after.stop("serve", "relay")
        await more(deliveries)
        await after.start("serve", "relay")
        await after.until_ready()
    await before.stop(*before.running)
    assert "applied 9005_post_planted" in await migrate(world, after, "--post")
    await more(deliveries)
    await before.start("serve")
    await before.until_problem("migrated past this version")
    assert await after.are_ready()


async def test_a_release_is_followed_by_this_version_and_comes_back(
    stack: Stack, topic_prefix: str, old: Version, new: Version
) -> None:
    """Every acknowledged delivery is in Kafka and takes effect once; no request fails while versions change."""
    async with rollout(stack, topic_prefix, old) as world:
        await roll(world, old, new, deliveries=40, rounds=1)


@pytest.mark.soak
async def test_versions_change_again_and_again(stack: Stack, topic_prefix: str, old: Version, new: Version) -> None:
    """The long form: ten times out and back, with 2,000 deliveries in each state."""
    async with rollout(stack, topic_prefix, old) as world:
        await roll(world, old, new, deliveries=2_000, rounds=10)
        sys.stderr.write(f"{len(world.counts.acknowledged)} deliveries over 31 changes of version: none lost\n")
