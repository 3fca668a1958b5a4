"""What each process costs while nothing arrives: CPU, memory and connections, and whether any of it grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slotwire.ingest.local.children import descendants
from tests.bench.stage import Stage, started

SETTLE_SECONDS = 5.0
_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class IdleCost:
    """What one of our processes holds.

    Attributes:
        rss_mib: memory at the end.
        grown_mib: by how much it grew meanwhile.
        connections: that are open at the end, to Postgres, Kafka and whoever asked for its health.
        opened: connections at the end that were not there at the beginning: an idle process has no reason for any.
    """

    rss_mib: float
    grown_mib: float
    connections: int
    opened: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Milliseconds of CPU in a second, by process, and what each of ours holds."""

    cpu: Mapping[str, float]
    held: Mapping[str, IdleCost]


async def measure_idle(stage: Stage, *, seconds: float, say: Callable[[str], None]) -> Idle:
    """Run everything, and send nothing."""
    servers = stage.chain()
    async with started(*servers.values()):
        await asyncio.sleep(SETTLE_SECONDS)
        held = {name: (rss_mib(each.pid), connections(each.pid)) for name, each in servers.items()}
        before, began = stage.cpu(servers), time.monotonic()
        await asyncio.sleep(seconds)
        after, elapsed = stage.cpu(servers), time.monotonic() - began
        costs = {name: cost(*held[name], rss_mib(each.pid), connections(each.pid)) for name, each in servers.items()}
    cpu = {name: (after[name] - before[name]) / elapsed * 1_000 for name in after}
    say("idle, ms of CPU a second: " + ", ".join(f"{name} {each:.1f}" for name, each in cpu.items()))
    for name, each in costs.items():
        memory = f"{each.rss_mib:.0f} MiB ({each.grown_mib:+.1f})"
        say(f"  {name}: {memory}, {each.connections} connections, {each.opened} new")
    return Idle(cpu, costs)


def cost(rss_before: float, before: frozenset[str], rss_after: float, after: frozenset[str]) -> IdleCost:
    """Compare what a process held at two times."""
    return IdleCost(rss_after, rss_after - rss_before, len(after), len(after - before))


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process and its descendants (Linux)."""
    return sum(_rss_kib(each) for each in (pid, *descendants(pid))) / 1_024


def _rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def connections(pid: int) -> frozenset[str]:
    """Return the inodes of the TCP connections that a process and its descendants have open (Linux)."""
    established = set[str]()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _ESTABLISHED:
                established.add(fields[9])
    return frozenset(inode for each in (pid, *descendants(pid)) for inode in _sockets(each) if inode in established)


def _sockets(pid: int) -> set[str]:
    found = set[str]()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kind, _, inode = link.readlink().name.partition(":")
        except FileNotFoundError:  # closed while it was looked at
            continue
        if kind == "socket":
            found.add(inode.strip("[]"))
    return found
