"""From the POST of a webhook to the callbacks of MCP subscribers.

`python -m tests.bench.mcp_events [SUBSCRIPTIONS [SECONDS]]`

One `slotwire mcp serve` delivers 10,000 subscriptions of 2,500 agents in 20 organizations, each with an address of its
own, at 16 hosts. An event is of one organization and of one of 2,500 domains, drawn anew each time, and four
subscriptions of different agents want it. Deliveries are sent when they are due; a time is from then to the last of the
four callbacks. The same is measured where all events are for the same four. The CPU of each process is told apart, and
what `tools/list` takes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import orjson
from pydantic import SecretStr

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.mcp_settings import McpSettings
from slotwire.ingest.foundation.sealing import SealingKeys
from slotwire.ingest.local.stack import ephemeral_folder
from slotwire.ingest.local.supervisor import Process, Service
from slotwire.ingest.mcp.events.catalogue import canonical
from slotwire.ingest.mcp.events.cursors import CursorScope
from slotwire.ingest.mcp.events.subscriptions import slot_of, subscription_id
from slotwire.ingest.mcp.tokens import TokenKeys, event_keys
from slotwire.ingest.mcp.tools.every import expanded
from slotwire.schemas.events import BY_TYPE, InviteeCreated
from slotwire.schemas.ids import last_segment
from tests.bench.chain import Chain, Spans, steadily
from tests.bench.deliveries import PAYLOAD, Delivery, Mint, Target
from tests.bench.load import percentile
from tests.bench.mcp_subscribers import addresses
from tests.bench.stage import BenchError, Stage, bench_environment, cpu_seconds, free_port, staged, started
from tests.support.mcp_request import wire_request
from tests.support.public_endpoint import make_hook

SUBSCRIPTIONS, ORGANIZATIONS, HOSTS = 10_000, 20, 16
MATCHING, RATE, SECONDS = 4, 50, 30
LISTINGS = 300
READY_SECONDS = 180.0
_CONNECTION = """
INSERT INTO slotwire.connections (id, org, kind, user_uri, role, credential_id, sealed, state, checked_at, created_at,
    changed_at)
VALUES (gen_random_uuid(), $1, 'personal_access_token', $2, 'user', gen_random_uuid(), '\\x00', 'active', $3, $3, $3)
"""
_AGENT = """
INSERT INTO slotwire.mcp_agents (id, name, hash, orgs, users, tools, event_types, label, created_at)
VALUES ($1, $2, $3, $4, '{}', $5, $6, '', $7)
"""
_SUBSCRIPTION = """
INSERT INTO slotwire.mcp_subscriptions (id, slot, agent, user_uri, org, shard, name, arguments, url, profile, secret,
    position, version, created_at, changed_at, expires_at)
VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, 'draft', $9, $10, 1, $11, $11, $12)
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Four subscriptions that want the same.

    Attributes:
        mint: makes deliveries of their organization.
        domain: of the invitees they want.
    """

    mint: Mint
    domain: str


class Bench:
    """Subscribers, and the process that delivers to them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.port, self.hosts = free_port(), addresses(HOSTS)
        key = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        self.settings = McpSettings(port=free_port(), token_keys=(SecretStr(f"k1:{key}"),))
        self.keys = TokenKeys.from_settings(self.settings)
        self.user: str = orjson.loads(PAYLOAD.read_bytes())["payload"]["scheduled_event"]["event_memberships"][0][
            "user"
        ]
        self.agents: list[tuple[UUID, str]] = []
        self.groups: list[Group] = []
        self._sealing = SealingKeys(event_keys(self.settings, self.keys), "the bench")
        self._rows: list[Sequence[object]] = []

    async def subscribe(self, subscriptions: int) -> None:
        """Make organizations, agents and subscriptions."""
        now, types = SystemClock().now(), sorted(BY_TYPE)
        ends = now + timedelta(days=1)
        position = await self.stage.ask("SELECT coalesce(max(position), 0) FROM slotwire.relay_mirror")
        orgs, rows = [], []
        for _ in range(ORGANIZATIONS):
            hook = await make_hook(self.stage.settings, self.stage.database)
            orgs.append((last_segment(hook.organization), Mint(Target(self.stage.target.port, hook.path, hook.key))))
            await self.stage.connection.execute(_CONNECTION, orgs[-1][0], self.user, now)
        tools, _ = expanded(["operate"])
        for number in range(subscriptions // MATCHING):
            self.agents.append((uuid4(), f"agent-{number}"))
            digest = hashlib.sha256(str(number).encode()).digest()
            rows.append((*self.agents[-1], digest, [orgs[number % ORGANIZATIONS][0]], list(tools), types, now))
        await self.stage.connection.executemany(_AGENT, rows)
        for number in range(subscriptions // MATCHING):
            org, mint = orgs[number % ORGANIZATIONS]
            self.groups.append(Group(mint, f"d{number}.example"))
            for each in range(MATCHING):  # of four agents of the organization
                agent = self.agents[(number + each * ORGANIZATIONS) % len(self.agents)][0]
                self._add(org, agent, {"invitee_domain": f"d{number}.example"}, position)
        await self.stage.connection.executemany(_SUBSCRIPTION, [(*row, now, ends) for row in self._rows])

    def _add(self, org: str, agent: UUID, arguments: Mapping[str, str], position: int) -> None:
        number, text = len(self._rows), canonical(arguments)
        url = f"http://{self.hosts[number % HOSTS]}:{self.port}/{number}"
        made = subscription_id(CursorScope((str(agent), self.user), InviteeCreated.type, text), url)
        secret = self._sealing.seal(b"s" * 32, context=("mcp_subscriptions", made))
        row = (made, slot_of(made), agent, self.user, org, InviteeCreated.type, text, url, secret, position)
        self._rows.append(row)

    def any_of_them(self) -> Delivery:
        """Make a delivery that four of the subscriptions want."""
        group = random.choice(self.groups)  # noqa: S311 - hides nothing
        return group.mint.delivery(group.domain)

    def the_same(self) -> Delivery:
        """Make a delivery that always the same four want."""
        return self.groups[0].mint.delivery(self.groups[0].domain)

    def subscribers(self, show: Callable[[str], None]) -> Process:
        """Return the process of the subscribers, not started."""
        argv = [sys.executable, "-m", "tests.bench.mcp_subscribers", str(self.port), str(HOSTS)]
        health = f"http://127.0.0.1:{self.port}/readyz"
        service = Service("subscribers", argv, bench_environment(Path("src").resolve()), health, stdout="pipe")
        return Process(service, self.stage.stack.state, show)

    def server(self) -> tuple[Process, str]:
        """Return `slotwire mcp serve`, not started, and the address of its metrics."""
        url, health = f"http://127.0.0.1:{self.settings.port}", free_port()
        own = {
            "SLOTWIRE_DATABASE_URL": self.stage.database.url_of["mcp"],
            "SLOTWIRE_MCP__PORT": str(self.settings.port),
            "SLOTWIRE_MCP__TOKEN_KEYS": self.settings.token_keys[0].get_secret_value(),
            "SLOTWIRE_HEALTH__PORT": str(health),
            "SLOTWIRE_OUTGOING__ALLOW_LOCAL": "true",
            "SLOTWIRE_CALENDLY__API_URL": url,
            "SLOTWIRE_CALENDLY__AUTH_URL": url,
        }
        argv = [*self.stage.command, "mcp", "serve"]
        service = Service("mcp", argv, {**self.stage.environment, **own}, f"http://127.0.0.1:{health}/readyz")
        return Process(service, self.stage.stack.state, _say), f"http://127.0.0.1:{health}/metrics"

    async def listings(self) -> list[float]:
        """Return what `tools/list` takes, in ms, in order."""
        url, times = f"http://127.0.0.1:{self.settings.port}", []
        async with httpx.AsyncClient() as http:
            for number in range(LISTINGS):
                agent, name = self.agents[number % len(self.agents)]
                endpoint = f"{url}/mcp/{name}"
                token, _ = self.keys.issue(endpoint, agent, self.user, None, SystemClock().now())
                headers, body = wire_request(token, "tools/list")
                content = json.dumps(body)
                begun = time.perf_counter()
                answer = await http.post(
                    endpoint, content=content, headers={**headers, "Content-Type": "application/json"}
                )
                times.append((time.perf_counter() - begun) * 1000)
                answer.raise_for_status()
        return sorted(times)


async def measure(stage: Stage, subscriptions: int, seconds: float) -> None:
    """Measure, and say it."""
    bench, counted = Bench(stage), defaultdict[str, int](int)
    chains: list[Chain] = []

    def came(line: str) -> None:
        invitee = line.partition(" ")[0]
        counted[invitee] += 1
        if counted[invitee] == MATCHING:
            for chain in chains:
                chain.handled(line)

    serve, relay, subscribers = stage.ours("serve", "serve"), stage.ours("relay", "relay"), bench.subscribers(came)
    async with started(serve, relay, subscribers):
        await bench.subscribe(subscriptions)
        server, metrics = bench.server()
        begun = time.monotonic()
        async with started(server):
            await _caught_up(metrics, subscriptions)
            took, used = time.monotonic() - begun, cpu_seconds(server.pid)
            _say(f"{subscriptions} subscriptions are followed after {took:.1f} s, for {used:.1f} s of CPU")
            processes = {"serve": serve, "relay": relay, "mcp": server, "subscribers": subscribers}
            for name, make in (("spread", bench.any_of_them), ("the same four", bench.the_same)):
                chains[:] = [Chain(stage.target, make)]
                await _run(stage, name, chains[0], processes, seconds)
            if set(counted.values()) != {MATCHING}:
                raise BenchError(f"events came {sorted(set(counted.values()))} times, not {MATCHING}")
            _say("tries: " + ", ".join(await _shown(metrics, "slotwire_mcp_event_tries_total")))
            _say(f"mcp has {_resident_megabytes(server.pid):.0f} MB")
            times = await bench.listings()
            middle, slow = percentile(times, 0.5), percentile(times, 0.99)
            _say(f"tools/list of {len(expanded(['operate'])[0])} tools: p50 {middle:.1f} ms, p99 {slow:.1f} ms")


async def _run(stage: Stage, name: str, chain: Chain, processes: Mapping[str, Process], seconds: float) -> None:
    await chain.connect(1)
    for _ in range(20):
        await chain.deliver()
    before = stage.cpu(processes)
    times = await steadily(chain, int(RATE * seconds), RATE)
    spans, after = Spans.of(times), sorted(called - answered for answered, called in times)
    spent = {each: used - before[each] for each, used in stage.cpu(processes).items()}
    chain.close()
    said = f"p50 {spans.handler_p50:.1f} ms, p99 {spans.handler_p99:.1f} ms"
    _say(f"{name}: {RATE}/s, {MATCHING} callbacks each: {said}")
    _say(f"  of which to the answer p99 {spans.answer_p99:.1f} ms, from it on p99 {percentile(after, 0.99):.1f} ms")
    _say("  CPU, of a core: " + ", ".join(f"{each} {100 * used / seconds:.0f} %" for each, used in spent.items()))


async def _shown(metrics: str, name: str) -> list[str]:
    """Return the lines of a metric."""
    async with httpx.AsyncClient() as http:
        return [line for line in (await http.get(metrics)).text.splitlines() if line.startswith(name)]


async def _caught_up(metrics: str, subscriptions: int) -> None:
    """Wait until all subscriptions are followed: the process says so once a second."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            lines = await _shown(metrics, "slotwire_mcp_event_subscriptions")
            told = dict(line.rsplit(" ", 1) for line in lines)
            held, busy = (float(told.get(f"slotwire_mcp_event_subscriptions{each}", -1)) for each in ("", "_busy"))
            if held == subscriptions and busy == 0:
                return
            await asyncio.sleep(0.2)


def _resident_megabytes(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


async def main(folder: Path, subscriptions: int = SUBSCRIPTIONS, seconds: int = SECONDS) -> None:
    """Measure on a stack of its own."""
    async with staged(folder, _say) as stage:
        await measure(stage, subscriptions, seconds)


if __name__ == "__main__":
    with ephemeral_folder() as place:
        asyncio.run(main(place, *map(int, sys.argv[1:])))
