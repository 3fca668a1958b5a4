"""`slotwire control` as a process: it starts without Kafka, serves, tells nothing secret, and stops clean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.app import Options, simulator
from slotwire.schemas.ids import last_segment
from tests.support.command import environment, slotwire
from tests.support.fork_server import Forked, piped
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE

START_SECONDS = 120


@dataclass
class Control:
    """The running process."""

    url: str
    child: Forked
    lines: list[str] = field(default_factory=list)

    async def line(self) -> str:
        """Return the next line of its log."""
        self.lines.append((await self.child.stderr.readline()).decode())
        return self.lines[-1]


@asynccontextmanager
async def control(env: Mapping[str, str]) -> AsyncIterator[Control]:
    """Run the process while the block runs; then stop it as an operator does, and read the rest of its log."""
    async with piped("control", env=env) as child:
        async with asyncio.timeout(START_SECONDS):
            first = (await child.stderr.readline()).decode()
        running = Control(json.loads(first)["url"], child, [first])
        yield running
        child.terminate()
        async with asyncio.timeout(START_SECONDS):
            running.lines += (await child.stderr.read()).decode().splitlines()
            await child.wait()


async def test_it_serves_and_keeps_its_secrets(database: Database) -> None:
    """Adding, listing and removing work over HTTP; neither key, token, hook nor signing key is in the log."""
    async with simulator(Options(seed="process", rate_limit=AMPLE)) as calendly:
        env = environment(settings_for(database), SLOTWIRE_CALENDLY__API_URL=calendly.url)
        made = await slotwire("keys", "api", "create", "--role", "admin", env=env)
        key, token = made.stdout.strip(), calendly.owner_token
        one = f"/v1/organizations/{last_segment(calendly.organization)}"
        async with control(env) as process, httpx.AsyncClient(base_url=process.url, timeout=60) as client:
            client.headers["Authorization"] = f"Bearer {key}"
            added = await client.post("/v1/organizations", json={"token": token})
            again = await client.post("/v1/organizations", json={"token": token})
            refused = await client.post("/v1/organizations", json={"token": token + "x"})
            listed = await client.get(f"{one}/subscriptions", params={"at_calendly": True})
            [known] = calendly.engine.ledger.subscriptions()
            subscription = added.json()["subscriptions"][0]["id"]
            ended = await client.delete(f"{one}/subscriptions/{subscription}")
            removed = await client.delete(one)
        left = calendly.engine.ledger.subscriptions()
    answers = (added, again, refused, listed, ended, removed)
    assert [item.status_code for item in answers] == [201, 200, 422, 200, 200, 200]
    assert refused.json()["code"] == "calendly_credential"
    assert listed.json()["items"][0]["at_calendly"]["state"] == "active"
    assert ended.json()["state"] == "ended"
    assert removed.json()["left"] == []
    assert not list(left)
    assert process.child.returncode == 0
    said = "\n".join([*process.lines, *(item.text for item in answers)])
    assert known.signing_key is not None
    for secret in (key, token, known.url, known.url.rpartition("/")[2], known.signing_key):
        assert secret not in said


async def test_it_goes_its_rounds(database: Database) -> None:
    """What somebody deleted at Calendly is there again a round later, made by the process alone."""
    async with simulator(Options(seed="rounds", rate_limit=AMPLE)) as calendly:
        env = environment(
            settings_for(database),
            SLOTWIRE_CALENDLY__API_URL=calendly.url,
            SLOTWIRE_SUBSCRIPTIONS__INTERVAL_SECONDS="1",
        )
        added = await slotwire("organizations", "add", "--token-file", "-", env=env, stdin=calendly.owner_token)
        assert added.code == 0, added.stderr
        [first] = calendly.engine.ledger.subscriptions()
        async with control(env) as process:
            calendly.engine.ledger.delete_subscription(first.id)
            async with asyncio.timeout(START_SECONDS):
                while True:
                    line = (await process.line()).strip()
                    if "subscriptions_changed" in line:
                        break
        [second] = calendly.engine.ledger.subscriptions()
    assert second.url != first.url
    assert process.child.returncode == 0


async def test_it_starts_without_postgres_and_says_that_it_is_not_ready(database: Database) -> None:
    """A database out of reach ends nothing: the process starts, answers 503, and stops clean."""
    env = environment(settings_for(database), SLOTWIRE_DATABASE_URL="postgresql://nobody:x@127.0.0.1:9/none")
    async with control(env) as process, httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"{process.url}/v1/events", headers={"Authorization": "Bearer slw_" + "A" * 43})
    assert answer.status_code == 503
    assert process.child.returncode == 0


async def test_wrong_settings_end_the_start_in_words(database: Database) -> None:
    """A missing key or a port in use ends the start with what to do, in a few lines, without a stack trace."""
    settings = settings_for(database)
    async with control(environment(settings)) as process:
        port = process.url.rpartition(":")[2]
        taken = await slotwire("control", env=environment(settings, SLOTWIRE_ADMIN__PORT=port))
    env = environment(settings)
    del env["SLOTWIRE_VAULT__KEYS"]
    keyless = await slotwire("control", env=env)
    for ran, words in ((taken, f"port {port} on 127.0.0.1 is in use"), (keyless, "SLOTWIRE_VAULT__KEYS is not set")):
        assert ran.code == 1
        assert words in ran.stderr
        assert "Traceback" not in ran.stderr
        assert len(ran.stderr.splitlines()) <= 4
