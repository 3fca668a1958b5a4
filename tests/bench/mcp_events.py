"""From the POST of a webhook to the callbacks of MCP subscribers: `python -m tests.bench.mcp_events`.

10,000 subscriptions in one process, 4 of them matching each event, deliveries sent when they are due. Times are from
before the POST is written to the last of the four callbacks; the CPU of each process is told apart.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import orjson

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.supervisor import Process, Service
from tests.bench.chain import Chain, Spans, steadily
from tests.bench.deliveries import PAYLOAD
from tests.bench.stage import Stage, bench_environment, cpu_seconds, free_port, staged, started

SUBSCRIPTIONS, MATCHING, RATE, SECONDS = 10_000, 4, 50, 30.0
READY_SECONDS = 120.0
_CONNECTION = """
INSERT INTO slotwire.connections (id, org, kind, user_uri, role, credential_id, sealed, state, checked_at, created_at,
    changed_at)
VALUES (gen_random_uuid(), $1, 'personal_access_token', $2, 'user', gen_random_uuid(), '\\x00', 'active', $3, $3, $3)
"""


async def measure(stage: Stage) -> None:
    """Measure, and say it."""
    user = orjson.loads(PAYLOAD.read_bytes())["payload"]["scheduled_event"]["event_memberships"][0]["user"]
    await stage.connection.execute(_CONNECTION, stage.org, user, SystemClock().now())
    chain, port, ready = Chain(stage.target), free_port(), asyncio.Event()
    counted: defaultdict[str, int] = defaultdict(int)

    def came(line: str) -> None:
        invitee = line.partition(" ")[0]
        counted[invitee] += 1
        if counted[invitee] == MATCHING:
            chain.handled(line)

    serve, relay = stage.ours("serve", "serve"), stage.ours("relay", "relay")
    subscribers = _child(stage, "subscribers", came, port, "receive", str(port))
    async with started(serve, relay, subscribers):
        await chain.connect(1)
        wanted = {
            "database_url": stage.database.url_of["mcp"],
            "org": stage.org,
            "user": user,
            "port": port,
            "subscriptions": SUBSCRIPTIONS,
            "matching": MATCHING,
            "position": await stage.ask("SELECT coalesce(max(position), 0) FROM slotwire.relay_mirror"),
        }
        begun = time.monotonic()
        delivering = _child(stage, "delivering", lambda _: ready.set(), port, "deliver", json.dumps(wanted))
        async with started(delivering):
            async with asyncio.timeout(READY_SECONDS):
                await ready.wait()
            _say(f"{SUBSCRIPTIONS} subscriptions are followed after {time.monotonic() - begun:.1f} s")
            for _ in range(20):
                await chain.deliver()
            before = {each.name: cpu_seconds(each.pid) for each in (serve, relay, delivering, subscribers)}
            spans = Spans.of(await steadily(chain, int(RATE * SECONDS), RATE))
            spent = {
                each.name: cpu_seconds(each.pid) - before[each.name] for each in (serve, relay, delivering, subscribers)
            }
            resident = _resident_megabytes(delivering.pid)
        chain.close()
    _say(f"{RATE}/s, {MATCHING} callbacks each: p50 {spans.handler_p50:.1f} ms, p99 {spans.handler_p99:.1f} ms")
    _say("CPU, of a core: " + ", ".join(f"{name} {100 * used / SECONDS:.0f} %" for name, used in spent.items()))
    _say(f"the delivering process has {resident:.0f} MB")


def _child(stage: Stage, name: str, show: object, port: int, *arguments: str) -> Process:
    argv = [sys.executable, "-m", "tests.bench.mcp_subscribers", *arguments]
    health = f"http://127.0.0.1:{port}/readyz"
    service = Service(name, argv, bench_environment(Path("src").resolve()), health, stdout="pipe")
    return Process(service, stage.stack.state, show)  # type: ignore[arg-type]  # takes a line


def _resident_megabytes(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


async def main(folder: Path) -> None:
    """Measure on a stack of its own."""
    async with staged(folder, _say) as stage:
        await measure(stage)


if __name__ == "__main__":
    with ephemeral_folder() as place:
        asyncio.run(main(place))
