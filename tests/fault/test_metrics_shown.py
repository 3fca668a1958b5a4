"""`/metrics` of every process as it runs: its own metrics, as the reference says, and nothing of another's."""

from __future__ import annotations

import asyncio
import re
import secrets

import httpx

from slotwire.ingest.foundation.exposition import PROCESSES
from slotwire.ingest.local.databases import Database
from slotwire.ingest.local.stack import Stack
from tests.support.children import Process, free_port, process
from tests.support.end_to_end import end_to_end
from tests.support.scraped import families, sample
from tools.sources import ROOT

REFERENCE = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
OBSERVED = ("slotwire_parked_events", "slotwire_postgres_connections", 'slotwire_connections{state="active"}')
LEADERS_OWN = (
    'slotwire_unwritten_bytes{shard="0"}',
    'slotwire_unwritten_seconds{shard="0"}',
    'slotwire_relay_lag_events{shard="0"}',
    'slotwire_relay_lag_seconds{shard="0"}',
)


def stated(process: str) -> set[str]:
    """Return what the reference says that a process shows."""
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| [^|]*\| ([^|]+) \|", REFERENCE, re.MULTILINE)
    return {name for name, processes in rows if process in processes.split(", ")}


def _keys_of_mcp() -> dict[str, str]:
    return {"SLOTWIRE_MCP__TOKEN_KEYS": f"k1:{secrets.token_urlsafe(32)}"}


async def scrape(child: Process) -> str:
    """Read `/metrics`; nothing while the process does not answer."""
    async with httpx.AsyncClient(timeout=60) as client:
        try:
            answer = await client.get(f"http://127.0.0.1:{child.health_port}/metrics")
        except httpx.TransportError:
            return ""
    assert answer.status_code == 200
    return answer.text


async def shown(child: Process, names: tuple[str, ...]) -> list[bool]:
    """Say of each of these series whether the process shows it."""
    text = await scrape(child)
    return [sample(text, name) is not None for name in names]


async def until(child: Process, names: tuple[str, ...], *, there: bool, seconds: float = 60) -> None:
    """Wait until a process shows all of these series, or none."""
    async with asyncio.timeout(seconds):
        while True:
            if await shown(child, names) == [there] * len(names):
                return
            await asyncio.sleep(0.05)


async def until_one_of(children: list[Process], names: tuple[str, ...]) -> int:
    """Wait until one process shows all of these series, and return which."""
    async with asyncio.timeout(60):
        while True:
            for number, child in enumerate(children):
                if all(await shown(child, names)):
                    return number
            await asyncio.sleep(0.05)


async def test_each_process_shows_what_the_reference_says(stack: Stack, database: Database, topic_prefix: str) -> None:
    """Every metric of its row, the kernel's numbers, and no zero of a metric that is another process's."""
    async with end_to_end(stack, database, topic_prefix) as flow:
        env = {**flow.env, "SLOTWIRE_ADMIN__PORT": str(free_port()), "SLOTWIRE_MCP__PORT": "0", **_keys_of_mcp()}
        async with process("control", env=env) as control, process("mcp", "serve", env=env) as mcp:
            await control.until_ready()
            await mcp.until_ready()
            for name, child in zip(PROCESSES, (flow.serve, flow.relay, control, flow.agent, mcp), strict=True):
                shown = families(await scrape(child))
                assert {each for each in shown if not each.startswith("process_")} == stated(name), name
                assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} <= set(shown)


async def test_a_sum_counts_nothing_twice_and_no_gauge_freezes(
    breakable_stack: Stack, database: Database, topic_prefix: str
) -> None:
    """Of two relays only the leader shows what waits, of two controls only one what it read; the other follows it.

    With Postgres stopped, what was read of it vanishes although the calls hang, and comes back when it goes on.
    """
    async with end_to_end(breakable_stack, database, topic_prefix, SLOTWIRE_METRICS__INTERVAL_SECONDS="1") as flow:
        env = {**flow.env, "SLOTWIRE_ADMIN__PORT": "0"}
        async with (
            process("relay", env=env) as standby,
            process("control", env=env) as one,
            process("control", env=env) as other,
        ):
            for child in (standby, one, other):
                await child.until_ready()
            relays, controls = [flow.relay, standby], [one, other]
            leads, shows = await until_one_of(relays, LEADERS_OWN), await until_one_of(controls, OBSERVED)
            assert await shown(relays[1 - leads], LEADERS_OWN) == [False] * len(LEADERS_OWN)
            assert await shown(controls[1 - shows], OBSERVED) == [False] * len(OBSERVED)
            await controls[shows].kill()
            await until(controls[1 - shows], OBSERVED, there=True)
            await relays[1 - leads].kill()  # who leads afterwards is not in question here
            await gauges_vanish_and_come_back(breakable_stack, relays[leads], controls[1 - shows])


async def gauges_vanish_and_come_back(stack: Stack, relay: Process, control: Process) -> None:
    """Stop Postgres until both show nothing of it, and let it go on until they do again."""
    read = ((control, OBSERVED), (relay, LEADERS_OWN))
    stack.postgres.freeze()
    try:
        for child, names in read:
            await until(child, names, there=False)
            assert (sample(await scrape(child), "process_open_fds") or 0) > 0
    finally:
        stack.postgres.thaw()
    for child, names in read:
        await until(child, names, there=True)
