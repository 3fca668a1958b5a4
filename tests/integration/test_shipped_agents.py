"""Agents that come with Slotwire: who sets what they do, where secrets are, and who is told, at least once."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from standardwebhooks import Webhook

from slotwire.handlers.agents.notify import agent
from slotwire.handlers.shipped.settings import MemorySettings, PostgresSettings
from slotwire.handlers.testing import RecordStatus, Trial
from slotwire.ingest.control.observation import Observer
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.agent_settings.stored import VARIABLE, seal_secrets, settings_keys
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.clock import SystemClock
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.outgoing import Outgoing
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import REGISTRY
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.agent_settings_models import AgentSettingsRequest
from slotwire.ingest.operate.doctor import examine
from slotwire.ingest.operate.findings import Finding
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from tests.support.agent_setup import AgentSetup, agent_setup, invitee_created
from tests.support.command import environment, slotwire
from tests.support.management_api import management_api, write_organization
from tests.support.public_endpoint import settings_for
from tests.support.receiver import Receiver, answer, receiving

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
URL = "https://receiver.example.com/in/capability"
LOCAL = "http://127.0.0.1:1"
MOVED = """
UPDATE slotwire.agent_settings SET sealed = (SELECT sealed FROM slotwire.agent_settings WHERE org = 'ORG')
WHERE org = 'OTHER'
"""
GONE = """
INSERT INTO slotwire.agent_settings
    (id, agent, org, document, secret_names, sealed, changed_at, changed_by, disabled_at, disabled_why)
VALUES (gen_random_uuid(), 'notify', '', '{}', '{url}', $1, $2, 'test', $2, 'the receiver answered 410')
"""
LATER = "2026-12-24T00:00:00+01:00"
WRONG: tuple[tuple[str, dict[str, Any]], ...] = (
    ("reschedule-assistant", {"reason": "away\x00"}),
    ("reschedule-assistant", {"reason": "\ud800"}),
    ("reschedule-assistant", {"event_types": ["a\x00b"]}),
    ("reschedule-assistant", {"away": [{"begins": "2026-12-24", "ends": LATER}]}),
    ("reschedule-assistant", {"away": [{"begins": LATER, "ends": LATER}]}),
    ("reschedule-assistant", {"away": {"begins": LATER}}),
    ("reschedule-assistant", {"within_days": 10**30}),
    ("availability-sync", {"days": "NaN"}),
    ("availability-sync", {"days": [14]}),
    ("nightly-digest", {"at": "18:15"}),
    ("nightly-digest", {"at": {"hour": 18}}),
    ("nightly-digest", {"mail": "ops@example.com\r\nBcc: all@example.com"}),
    ("nightly-digest", {"timezone": "Europe"}),
    ("nightly-digest", {"timezone": "../../etc/localtime"}),
    ("nightly-digest", {"host_timezones": "ADA\x00=UTC"}),
    ("no-show-sweeper", {"source": "door"}),
    ("no-show-sweeper", {"dry_run": "perhaps"}),
)
"""Settings of a wrong form, each with one field."""
KEYS = f"k1:{encode_base64url(secrets.token_bytes(32))}"


@pytest.fixture
async def setup(database: Database, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[AgentSetup]:
    """Topics and a database of the test's own."""
    async with agent_setup(database, kafka_bootstrap, topic_prefix, partitions=1) as made:
        yield made


async def test_settings_are_set_by_command_and_secrets_stay_sealed(database: Database, tmp_path: Path) -> None:
    """A command sets, shows and unsets; a secret is taken from a file or a pipe only, and shown and kept nowhere."""
    await write_organization(database, "ORG")
    env = environment(settings_for(database), **{VARIABLE: KEYS})
    file = tmp_path / "secret"
    file.write_text(SECRET)

    async def run(verb: str, *arguments: str, stdin: str = "") -> tuple[int, str]:
        done = await slotwire("agents", "settings", verb, *arguments, env=env, stdin=stdin)
        assert "capability" not in done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
        return done.code, done.stdout or done.stderr

    ours = ("notify", "--organization", "ORG")
    code, said = await run("set", *ours, "types=com.calendly.invitee.created.v1", "dry_run=true")
    assert (code, "url: Field required" in said) == (1, True)
    secret = ("--secret", "url=-", "--secret", f"secret={file}")
    wanted = ("types=com.calendly.invitee.created.v1", "dry_run=true")
    assert (await run("set", *ours, *wanted, *secret, "--json", stdin=URL))[0] == 0
    for refused, why in (
        (("url=https://elsewhere.example.com/",), "a secret does not belong on the command line"),
        (("origins=nowhere",), "origins: "),
        (("--secret", f"url={file}"), "secret goes with url: give it again"),
    ):
        code, said = await run("set", *ours, *refused)
        assert (code, why in said) == (1, True), said
    assert "no agent of this name" in (await run("set", "nobody", "x=1"))[1]
    assert "was never added" in (await run("set", "notify", "--organization", "NONE", "dry_run=true"))[1]
    assert (await run("set", *ours, "dry_run=", "name_invitees=true"))[0] == 0
    shown = json.loads((await run("show", "notify", "--json"))[1])
    assert shown["settings"] == {"types": ["com.calendly.invitee.created.v1"], "name_invitees": True}
    assert (shown["organization"], shown["secrets"], shown["version"]) == ("ORG", ["secret", "url"], 2)
    tried = await slotwire("agents", "try", "notify", str(uuid4()), env=env)
    assert (tried.code, "could not be rolled back" in tried.stderr) == (1, True)
    assert (await run("unset", "notify"))[0] == 1
    assert (await run("unset", *ours))[0] == 0
    assert "nothing is set here" in (await run("show"))[1]


async def test_only_the_agents_key_opens_what_is_set(database: Database) -> None:
    """No table has a secret in clear, nobody reaches another organization's, and what is sealed opens for one only."""
    for org in ("ORG", "OTHER"):
        await write_organization(database, org)
    agents = AgentsSettings.model_validate({"settings_keys": KEYS})
    settings = settings_for(database).model_copy(update={"agents": agents})
    async with management_api(settings) as api:
        values = {"url": URL, "secret": SECRET}
        general = AgentSettingsRequest(agent="notify", settings={**values, "dry_run": True})
        ours = general.model_copy(update={"organization": "ORG", "settings": {**values, "dry_run": False}})
        made = await api.actions.agent_settings.set(COMMAND_LINE, ours)
        await api.actions.agent_settings.set(COMMAND_LINE, general)
        again = await api.actions.agent_settings.set(COMMAND_LINE, ours.model_copy(update={"settings": {}}))
        assert (again.id, again.version, again.secrets) == (made.id, 2, made.secrets), "the same, sealed again"
        stranger = await api.key(Role.OPERATOR, "OTHER")
        assert (await api.ask("GET", "/v1/agents/settings", stranger)).json()["items"] == []
        assert (await api.ask("DELETE", f"/v1/agents/settings/{made.id}", stranger)).status_code == 404
        body = {"agent": "notify", "settings": {"form": "chat", "url": URL}}
        theirs = (await api.ask("POST", "/v1/agents/settings", stranger, json=body)).json()
        assert theirs["organization"] == "OTHER", "who is bound sets what is its own"
        moved = AgentSettingsRequest(agent="notify", organization="ORG", settings={"url": f"{URL}/2"})
        with pytest.raises(RequestRefused, match="give it again"):
            await api.actions.agent_settings.set(COMMAND_LINE, moved)
        for name, wrong in WRONG:
            asked = AgentSettingsRequest(agent=name, organization="ORG", settings=wrong)
            with pytest.raises(RequestRefused) as refused:
                await api.actions.agent_settings.set(COMMAND_LINE, asked)
            assert refused.value.code == "settings_invalid", wrong
            assert set(wrong) & set(re.split(r"\W+", refused.value.message)), "it says which field"
    async with connected(database.url_of["agents"]) as connection:
        for forbidden in ("SELECT 1 FROM slotwire.agent_settings", "SELECT slotwire.unset_agent_settings(NULL, NULL)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
        source = PostgresSettings(connection, settings_keys(agents), clock=SystemClock())
        for org, dry in (("ORG", False), ("ELSE", True)):
            found = await source.find("notify", org)
            assert found is not None
            assert dict(found[1]) == {**values, "dry_run": dry}
        assert await source.find("another", "ORG") is None
        with pytest.raises(ConfigurationError, match=VARIABLE):
            await PostgresSettings(connection, None, clock=SystemClock()).find("notify", "ORG")
        async with connected(database.owner_url) as owner:
            rows = str([tuple(row) for row in await owner.fetch("SELECT * FROM slotwire.agent_settings")])
            await owner.execute(MOVED)
        assert not [word for word in ("capability", SECRET) if word in rows]
        with pytest.raises(ConfigurationError, match="does not open"):
            await source.find("notify", "OTHER")


async def test_receivers_that_are_gone_are_named(database: Database) -> None:
    """Settings that an agent had to disable are counted, and a warning of the doctor; secrets without a key fail."""
    settings = settings_for(database)
    sealed = seal_secrets(settings_keys(settings.agents), "notify", "", {"url": URL})
    async with connected(database.owner_url) as owner:
        await owner.execute(GONE, sealed, SystemClock().now())

    async def found(settings: Settings) -> Finding:
        return {each.check: each async for each in examine(settings, SystemClock())}["agent settings"]

    said = await found(settings)
    assert (said.state, "notify (1, the first for all)" in said.message) == ("warning", True)
    assert "receiver-gone.md" in said.remedy
    assert (await found(settings.model_copy(update={"agents": AgentsSettings()}))).state == "failed"
    async with management_api(settings) as api:
        await Observer(api.actions.pool, SystemClock(), settings.metrics).run_once()
    assert REGISTRY.get_sample_value("slotwire_agent_settings_disabled", {"agent": "notify"}) == 1


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Connect while the block runs."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def installed(values: Mapping[str, Any]) -> AsyncIterator[tuple[Receiver, MemorySettings]]:
    """Run a receiver, and have the agent tell it by these settings."""
    settings = OutgoingSettings(allow_local=True, timeout_seconds=30, per_second_per_destination=1000)
    outgoing = Outgoing(settings, purpose="notify")
    async with receiving() as receiver, outgoing:
        url = f"http://127.0.0.1:{receiver.port}/in"
        source = MemorySettings({("notify", ""): {"url": url, "secret": SECRET, **values}})
        agent.install(source, outgoing, allow_local=True)
        yield receiver, source


async def test_a_receiver_is_told_until_it_takes_it() -> None:
    """Each try has the event's id, the same body and a fresh signature that holds; waits heed the receiver."""
    async with installed({}) as (receiver, _):
        receiver.answers(answer(500), b"", answer(429, b"", "Retry-After: 300"), answer(302), answer(200))
        trial, event = Trial(agent), invitee_created("I", 1)
        (result,) = await trial.deliver(event)
    assert (result.status, len(receiver.received), trial.pauses[2]) == (RecordStatus.DONE, 5, 300)
    assert len({post.body for post in receiver.received}) == 1
    for post in receiver.received:
        assert post.headers["webhook-id"] == str(event.id)
        assert Webhook(SECRET).verify(post.body, post.headers)["data"]["uri"] == event.data.uri


async def test_a_receiver_that_is_gone_is_asked_no_more() -> None:
    """After 410 the settings are disabled and the event is given up; 413 costs one event; hours of failures disable."""
    async with installed({}) as (receiver, source):
        trial = Trial(agent)
        receiver.answers(answer(413), answer(410))
        results = await trial.deliver(*(invitee_created("I", n) for n in (1, 2, 3)))
        assert [result.status for result in results] == [RecordStatus.DEAD_LETTERED] * 2 + [RecordStatus.DONE]
        assert len(receiver.received) == 2
        assert source.disabled == {("notify", ""): "the receiver answered 410: it wants no more"}
    for status, disables in ((503, True), (400, False)):
        async with installed({}) as (receiver, source):
            receiver.answers(answer(status))
            (result,) = await Trial(agent).deliver(invitee_created("I", 1))
            assert (result.status, result.attempts) == (RecordStatus.DEAD_LETTERED, agent.retry.attempts)
            assert bool(source.disabled) is disables


async def test_a_dry_run_and_a_refused_address_reach_nobody() -> None:
    """A dry run says what it would send, and sends nothing; where the guard refuses the receiver, nothing goes out."""
    async with installed({"dry_run": True}) as (receiver, _):
        (result,) = await Trial(agent).deliver(invitee_created("I", 1))
        assert (result.status, receiver.connections) == (RecordStatus.DONE, 0)
    guarded = OutgoingSettings(per_second_per_destination=1000)
    async with receiving() as receiver, Outgoing(guarded, purpose="notify") as outgoing:
        url = f"https://localhost:{receiver.port}/in"
        agent.install(MemorySettings({("notify", ""): {"url": url, "secret": SECRET}}), outgoing)
        trial = Trial(agent)
        (result,) = await trial.deliver(invitee_created("I", 1))
        assert (result.status, receiver.connections) == (RecordStatus.DEAD_LETTERED, 0)
        assert (
            trial.dead_letters[0].why.reason
            == "localhost means an address that may not be connected to: it is this machine"
        )
