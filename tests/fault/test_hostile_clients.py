"""Floods of hostile connections on every port at once, while real deliveries come in: none of these is refused."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.connect_link_models import ConnectLinkRequest
from slotwire.ingest.operate.models import KeyRequest
from slotwire.ingest.operate.process import operating
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from tests.fault.attackers import Plan, Toll
from tests.support.agent_setup import until
from tests.support.children import Process, environment, free_port, process
from tests.support.keepalive_load import request
from tests.support.oauth_setup import oauth_environment, oauth_settings
from tests.support.public_endpoint import PATIENT_SECONDS, Hook, invitee_body, make_hook, settings_for
from tests.support.wire import Wire, wires

DELIVERIES_PER_SECOND = 40
KEPT = 8
"""Connections that real deliveries come on again and again; half of all deliveries come on one of their own."""
HOOKS = {"idle": 1_800, "silent": 50, "slow": 80, "half": 80, "chunked": 4, "forged": 4, "pipelined": 4, "foreign": 8}
OPERATORS = {"idle": 240, "silent": 10, "slow": 10, "half": 10, "forged": 2, "pipelined": 2, "foreign": 2}
CUSTOMERS = OPERATORS
HEALTH = {"idle": 50, "silent": 10, "slow": 5, "half": 5, "forged": 2, "pipelined": 2, "foreign": 2}
"""More on each port than it takes, so that newcomers come at the cap all the time."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    """What real clients saw.

    Attributes:
        seconds: from the POST to its answer, connecting included where a delivery had a connection of its own.
        statuses: of deliveries, probes and the operator.
        cpu: of `serve`, in seconds.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    cpu: float = 0.0

    def note(self, what: str) -> None:
        """Count an answer."""
        self.statuses[what] = self.statuses.get(what, 0) + 1

    @property
    def p50(self) -> float:
        """The median of the deliveries' time, in milliseconds."""
        return sorted(self.seconds)[len(self.seconds) // 2] * 1e3

    @property
    def p99(self) -> float:
        """The 99th percentile of the deliveries' time, in milliseconds."""
        return sorted(self.seconds)[len(self.seconds) * 99 // 100] * 1e3


@dataclass(frozen=True)
class Target:
    """The processes under attack."""

    serve: Process
    control: Process
    hook: Hook
    ports: dict[str, int]
    admin_key: str
    link: str

    @property
    def url(self) -> str:
        """The public address."""
        return f"http://127.0.0.1:{self.ports['hooks']}"

    def cpu(self) -> float:
        """Return the CPU seconds that `serve` has used."""
        fields = Path(f"/proc/{self.serve.child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@asynccontextmanager
async def targets(settings: Settings, database: Database) -> AsyncIterator[Target]:
    """Run `serve` and `control` as children."""
    hook = await make_hook(settings, database)
    async with operating(settings, SystemClock(), application="test") as actions:
        made = await actions.keys.create(COMMAND_LINE, KeyRequest(role=Role.READER, organization=None))
        link = await actions.connect_links.create(COMMAND_LINE, ConnectLinkRequest(external_id="customer"))
    public, admin = free_port(), free_port()
    env = environment(
        settings,
        SLOTWIRE_HTTP__PORT=str(public),
        SLOTWIRE_HTTP__ANSWER_DEADLINE_SECONDS=str(PATIENT_SECONDS),
        SLOTWIRE_ADMIN__PORT=str(admin),
    )
    app = oauth_environment(settings)
    async with process("serve", env=env) as serve, process("control", env=env | app) as control:
        await serve.until_ready()
        await control.until_ready()
        ports = {"hooks": public, "admin": admin, "oauth": settings.oauth.port, "health": serve.health_port}
        yield Target(serve, control, hook, ports, made.key, link.url)


async def deliver(target: Target, wire: Wire, run: Run) -> None:
    """Send a delivery on a connection, and note what becomes of it."""
    wire.send(request(target.hook, invitee_body()))
    try:
        run.note(f"delivery {(await wire.answer())[0]}")
    except (ConnectionError, EOFError, TimeoutError) as error:
        run.note(f"delivery {type(error).__name__}")


async def _on_its_own(target: Target, run: Run) -> None:
    started = perf_counter()
    async with wires(target.url, 1) as [wire]:
        await deliver(target, wire, run)
    run.seconds.append(perf_counter() - started)


async def _on_a_kept_one(target: Target, wire: Wire, free: asyncio.Queue[Wire], run: Run) -> None:
    started = perf_counter()
    await deliver(target, wire, run)
    run.seconds.append(perf_counter() - started)
    free.put_nowait(wire)


async def _watch(target: Target, run: Run, stop: asyncio.Event) -> None:
    """Probe the health port, ask the management API, and open a customer's link, on new connections each time."""
    questions = {
        "ready": (f"http://127.0.0.1:{target.ports['health']}/readyz", {}),
        "alive": (f"http://127.0.0.1:{target.ports['health']}/livez", {}),
        "operator": (
            f"http://127.0.0.1:{target.ports['admin']}/v1/events",
            {"Authorization": f"Bearer {target.admin_key}"},
        ),
        "customer": (target.link, {}),
    }
    while not stop.is_set():
        for what, (url, headers) in questions.items():
            async with httpx.AsyncClient(timeout=60) as client:
                run.note(f"{what} {(await client.get(url, headers=headers)).status_code}")


async def real_load(target: Target, seconds: float) -> Run:
    """Deliver at an even pace, half on new connections and half on kept ones, and watch; wait for every answer."""
    run, stop, before = Run(), asyncio.Event(), target.cpu()
    free: asyncio.Queue[Wire] = asyncio.Queue()
    async with wires(target.url, KEPT) as kept, asyncio.TaskGroup() as group:
        for wire in kept:
            await deliver(target, wire, Run())
            free.put_nowait(wire)
        group.create_task(_watch(target, run, stop))
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as deliveries:
            for number in range(int(seconds * DELIVERIES_PER_SECOND)):
                await asyncio.sleep(max(0.0, start + number / DELIVERIES_PER_SECOND - loop.time()))
                if number % 2:
                    deliveries.create_task(_on_its_own(target, run))
                else:
                    deliveries.create_task(_on_a_kept_one(target, await free.get(), free, run))
        stop.set()
    run.cpu = target.cpu() - before
    return run


@asynccontextmanager
async def flood(plan: Plan) -> AsyncIterator[Toll]:
    """Attack while the block runs, which begins when all attackers have connected; the toll is filled in at its end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fault.attackers",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    toll = Toll()
    try:
        if child.stdin is None or child.stdout is None:
            raise AssertionError
        child.stdin.write(orjson.dumps(asdict(plan)) + b"\n")
        async with asyncio.timeout(60):
            assert await child.stdout.readline() == b"standing\n"
        yield toll
        out, _ = await child.communicate(b"\n")
        for name, value in orjson.loads(out).items():
            setattr(toll, name, value)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def refusals(port: int) -> dict[tuple[str, str], float]:
    """Read a process's count of refused connections, by listener and reason."""
    async with httpx.AsyncClient(timeout=60) as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    return {
        (sample.labels["listener"], sample.labels["reason"]): sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "slotwire_connections_refused"
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def besiege(database: Database, *, quiet_seconds: float, seconds: float, pause: float) -> tuple[Run, Run]:
    """Measure a quiet run and one under attack, on the same processes; print both, and check the second."""
    settings = oauth_settings(settings_for(database), "http://127.0.0.1:9", listener=free_port())
    async with targets(settings, database) as target:
        quiet = await real_load(target, quiet_seconds)
        crowds = {"hooks": HOOKS, "admin": OPERATORS, "oauth": CUSTOMERS, "health": HEALTH}
        plan = Plan(target.ports, target.hook.path, crowds, pause)
        async with flood(plan) as toll:
            attacked = await real_load(target, seconds)
            await until(lambda: _is_refused(target, set(crowds)))
    _report(quiet, quiet_seconds, attacked, seconds, toll)
    for run in (quiet, attacked):
        assert {what.rpartition(" ")[2] for what in run.statuses} == {"200"}, run.statuses
    assert len(attacked.seconds) == int(seconds * DELIVERIES_PER_SECOND)
    assert toll.most > settings.http.max_connections
    return quiet, attacked


async def _is_refused(target: Target, listeners: set[str]) -> bool:
    """Say whether each listener has made room for a newcomer, and `hooks` has refused each kind of nonsense."""
    counted = await refusals(target.serve.health_port) | await refusals(target.control.health_port)
    found = {reason for listener, reason in counted if listener == "hooks"}
    made_room = {listener for listener, reason in counted if reason == "made_room"}
    return found >= {"made_room", "framing", "unreadable"} and made_room == listeners


def _report(quiet: Run, quiet_seconds: float, attacked: Run, seconds: float, toll: Toll) -> None:
    for name, run, lasted in (("quiet", quiet, quiet_seconds), ("attacked", attacked, seconds)):
        sys.stdout.write(
            f"{name}: {len(run.seconds)} deliveries, p50 {run.p50:.1f} ms, p99 {run.p99:.1f} ms,"
            f" serve used {run.cpu / lasted:.0%} of a core; {run.statuses}\n"
        )
    sys.stdout.write(f"ratio of p99: {attacked.p99 / quiet.p99:.2f}; attackers: {toll}\n")


async def test_a_flood_on_every_port_refuses_no_delivery(database: Database) -> None:
    """While 2,600 hostile connections are held or made again, each delivery, probe and operator is answered 200."""
    await besiege(database, quiet_seconds=1, seconds=3, pause=1)


@pytest.mark.soak
async def test_a_long_flood_on_every_port(database: Database) -> None:
    """The long form, past each timer: nothing is refused, and p99 is within twice the quiet one."""
    quiet, attacked = await besiege(database, quiet_seconds=30, seconds=120, pause=1)
    assert attacked.p99 <= 2 * quiet.p99
