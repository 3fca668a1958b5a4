"""What it costs that the door asks for a webhook's signing key: the numbers of docs/decisions/0005.

    python -m tests.bench.key_check

Two doors on one database take the same rows in turn, one as shipped and one that does not ask; `fsync` and
`synchronous_commit` are on, then `synchronous_commit` is off, so that the disk does not hide what the server computes.
In about half a minute it prints one table.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import uvloop

from slotwire.ingest.foundation.postgres import BY_KEY, Connection, write_times_quickly
from slotwire.ingest.local.databases import create_database, migrate_template
from slotwire.ingest.local.stack import StackOptions, embedded_stack, ephemeral_folder
from slotwire.ingest.receive.accept import AcceptRow
from slotwire.schemas.ids import last_segment
from tests.bench.deliveries import Mint, Target
from tests.support.public_endpoint import Hook, make_hook, settings_for

HOOKS = 200
"""Subscriptions that the rows of one commit belong to, in turn: no two of a commit share a key."""
BATCHES = (1, 20, 200)
ROUNDS = {1: 1_500, 20: 400, 200: 100}
CALL = "SELECT last FROM slotwire.{}(p_shard => 0::smallint, p_now => $1, p_limit => NULL, p_rows => $2)"
ASKING = ("array_agg(r.id) FILTER (WHERE r.signing_key", "k.subscription_id = r.subscription_id))")
"""Beginning and end of the question in the door's text; the other door has NULL there."""


async def add_other_door(owner: Connection) -> None:
    """Make `slotwire.accept_unasked`: the door without the question."""
    source: str = await owner.fetchval("SELECT pg_get_functiondef('slotwire.accept'::regproc)")
    before, begin, rest = source.partition(ASKING[0])
    _, end, after = rest.partition(ASKING[1])
    if not begin or not end:
        raise SystemExit("key_check: the door's text has changed; change ASKING with it")
    await owner.execute(f"{before}NULL::uuid[]{after}".replace("slotwire.accept(", "slotwire.accept_unasked("))


def rows_of(hooks: Sequence[Hook], count: int) -> list[AcceptRow]:
    """Make new rows, as `serve` does."""
    now = datetime.now(UTC)
    rows = []
    for number in range(count):
        hook = hooks[number % len(hooks)]
        body = Mint(Target(0, hook.path, hook.key)).body()[1]
        org = last_segment(hook.organization)
        place = (uuid4(), org, hook.subscription_id, "webhook", now, now, False, "", None, None)
        rows.append(AcceptRow(*place, body, hook.key_id))
    return rows


async def compare(connection: Connection, hooks: Sequence[Hook], batch: int) -> tuple[float, float]:
    """Return the median milliseconds of a commit without and with the question, taken in turn."""
    times: dict[str, list[float]] = {"accept_unasked": [], "accept": []}
    for turn in range(ROUNDS[batch] + 20):
        rows = rows_of(hooks, batch)
        for door in (*times,) if turn % 2 else (*reversed(times),):
            start = time.perf_counter()
            await connection.fetchrow(CALL.format(door), datetime.now(UTC), rows)
            if turn >= 20:
                times[door].append(time.perf_counter() - start)
    unasked, asked = (statistics.median(each) * 1_000 for each in times.values())
    return unasked, asked


async def measure(folder: Path) -> None:
    """Measure and print."""
    async with embedded_stack(folder, report=lambda _: None, options=StackOptions(ephemeral=True)) as stack:
        await migrate_template(stack.postgres)
        database = await create_database(stack.postgres)
        settings = settings_for(database)
        hooks = [await make_hook(settings, database) for _ in range(HOOKS)]
        connection = await asyncpg.connect(database.owner_url, server_settings=dict(BY_KEY))
        try:
            await add_other_door(connection)
            await write_times_quickly(connection)
            sys.stdout.write("synchronous_commit  rows  without, ms  with, ms  ratio\n")
            for commit in ("on", "off"):
                await connection.execute(f"SET synchronous_commit = {commit}")
                for batch in BATCHES:
                    unasked, asked = await compare(connection, hooks, batch)
                    line = f"{commit:>18} {batch:>5} {unasked:>12.3f} {asked:>9.3f} {asked / unasked:>6.2f}\n"
                    sys.stdout.write(line)
        finally:
            await connection.close()


if __name__ == "__main__":
    with ephemeral_folder() as place:
        uvloop.run(measure(place))
