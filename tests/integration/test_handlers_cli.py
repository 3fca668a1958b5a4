"""`slotwire agents`: run as a process of its own, listed, and told what is wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from slotwire.ingest.local.databases import Database
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created, until
from tests.support.command import slotwire
from tests.support.fork_server import Forked, piped

COMMAND = (sys.executable, "-m", "slotwire.ingest.cli", "agents")


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix) as made:
        yield made


async def log_line(child: Forked, event: str) -> dict[str, str]:
    """Read the child's log up to an event."""
    while True:
        line: dict[str, str] = json.loads(await child.stderr.readline())
        if line["event"] == event:
            return line


async def test_the_demo_agent_prints_events_and_stops_cleanly(setup: AgentSetup) -> None:
    """The process becomes ready, prints a line an event, shows its metrics, and ends with 0 within its grace."""
    command = ("agents", "run", "slotwire.handlers.agents.demo:json_agent")
    async with piped(*command, env=setup.environment()) as child, asyncio.timeout(120):
        health = (await log_line(child, "agents_started"))["health"]
        await log_line(child, "partitions_assigned")
        await setup.publish(invitee_created("chain", 1))
        facts = json.loads(await child.stdout.readline())
        assert (facts["chain"], facts["what"]) == ("chain", "booked")
        assert 0 <= facts["latency_ms"] < 60_000
        async with httpx.AsyncClient(base_url=health, timeout=60) as client:
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["problems"]) == (200, {})
            labels = 'agent="demo",outcome="done",type="com.calendly.invitee.created.v1"'

            async def counted() -> bool:
                return f"slotwire_handled_total{{{labels}}} 1.0" in (await client.get("/metrics")).text

            await until(counted)  # the line is printed before the event is marked and counted
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
        assert (await child.stdout.read()) == b""


async def test_an_agent_that_waits_is_alive_but_not_ready(setup: AgentSetup) -> None:
    """Without its topics the process lives, is not ready, and readiness names the command to run."""
    changed = {"SLOTWIRE_KAFKA__TOPIC_PREFIX": f"{setup.settings.kafka.topic_prefix}none."}
    env = {**setup.environment(), **changed}
    async with piped("agents", "run", "slotwire.handlers.agents.demo:agent", env=env) as child, asyncio.timeout(120):
        health = (await log_line(child, "agents_started"))["health"]
        held = await log_line(child, "agent_held")
        async with httpx.AsyncClient(base_url=health, timeout=60) as client:
            ready = await client.get("/readyz")
            assert (await client.get("/livez")).status_code == 200
        assert ready.status_code == 503
        assert "Run `slotwire migrate`" in ready.json()["problems"]["agent demo"]
        assert "calendly.invitee is missing" in held["why"]
        child.send_signal(signal.SIGINT)
        assert await child.wait() == 0


async def test_agents_are_listed() -> None:
    """The list names agent, group, events and topics; with --json one object a line; nothing has to run for it."""
    text = await slotwire("agents", "list", env={"SLOTWIRE_KAFKA__TOPIC_PREFIX": "eu."})
    assert "demo  (slotwire.handlers.agents.demo:agent, group eu.demo)" in text.stdout
    assert "com.calendly.invitee.canceled.v1" in text.stdout
    lines = (await slotwire("agents", "list", "--json", env={})).stdout.splitlines()
    listed = {each["agent"]: each for each in map(json.loads, lines)}
    (work,) = listed["nightly-digest"]["schedules"]
    assert work == {"schedule": "digest", "times": "cron 0,30 * * * * UTC", "missed": work["missed"]}
    assert listed["nightly-digest"]["dead_letters"] == ["slotwire.firings.nightly-digest.dlq"]
    found = listed["demo"]
    assert (found["group"], [work["schedule"] for work in found["schedules"]]) == ("demo", ["begun"])
    assert found["dead_letters"] == [f"{topic}.demo.dlq" for topic in (*found["topics"], "slotwire.firings")]
    assert "calendly.invitee" in found["topics"]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("run", "nowhere:agent"), {}, ("there is no module nowhere",)),
        (("run", "slotwire.handlers.agents.demo:agnet"), {}, ("no agent called agnet", "json_agent, local_agent")),
        (
            ("run", "slotwire.handlers.agents.demo:agent", "slotwire.handlers.agents.demo:json_agent"),
            {},
            ("two of the agents are called demo",),
        ),
        (("run", "slotwire.handlers.agents.demo:agent"), {}, ("SLOTWIRE_DATABASE_URL is not set",)),
        (
            ("run", "slotwire.handlers.agents.demo:agent"),
            {"SLOTWIRE_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"},
            ("SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS is not set",),
        ),
    ],
)
async def test_bad_input_gets_words_not_a_stack_trace(
    arguments: tuple[str, ...], environment: dict[str, str], words: tuple[str, ...]
) -> None:
    """What is wrong with a reference or a setting is said in two lines, with exit code 1."""
    done = await slotwire("agents", *arguments, env={"SLOTWIRE_HEALTH__PORT": "0", **environment})
    assert done.code == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


async def test_an_authors_code_sees_no_key(tmp_path: Path) -> None:
    """Whatever the shell has: the process that imports an agent has no key, and none can be read of how it began."""
    secret = base64.urlsafe_b64encode(bytes(32)).decode()
    (tmp_path / "mine_curious.py").write_text(
        "import os\nfrom pathlib import Path\nfrom slotwire.handlers.agents.demo import agent\n"
        "seen = repr(dict(os.environ)) + repr([each.read_bytes() for each in Path('/proc/self').glob('environ')])\n"
        "names = ('VAULT__', 'HOOK_KEYS', 'OAUTH__', 'MIGRATE__', 'SETTINGS_KEYS', 'MCP__', 'MAIL__', 'KAFKA__')\n"
        "print([name for name in names if name in seen])\n"
    )
    env = {
        "SLOTWIRE_VAULT__KEYS": f"k:{secret}",
        "SLOTWIRE_HTTP__HOOK_KEYS": secret,
        "SLOTWIRE_OAUTH__CLIENT_SECRET": secret,
        "SLOTWIRE_AGENTS__SETTINGS_KEYS": f"k:{secret}",
        "SLOTWIRE_MCP__TOKEN_KEYS": f"k:{secret}",
        "SLOTWIRE_MCP__EVENT_KEYS": f"k:{secret}",
        "SLOTWIRE_MAIL__PASSWORD": secret,
        "SLOTWIRE_MIGRATE__DATABASE_URL": "postgresql://owner:secret@127.0.0.1:1/d",
        "SLOTWIRE_KAFKA__TOPIC_PREFIX": "eu.",
    }
    child = await asyncio.create_subprocess_exec(
        *COMMAND, "list", "mine_curious:agent", cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await child.communicate()
    assert printed.decode().splitlines()[0] == "['KAFKA__']"
