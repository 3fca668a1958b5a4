"""The runbooks of leaked keys and tokens: their commands run as they stand, and do what the pages say."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.models import KeyRequest
from slotwire.ingest.operate.roles import COMMAND_LINE, Role
from tests.integration.test_management_howto import fits
from tests.support import fork_server
from tests.support.command import environment
from tests.support.organizations_setup import OrganizationsSetup, organizations_setup
from tests.support.public_endpoint import SIGNATURE, invitee_body, sign
from tools.documents import ROOT

RUNBOOKS = ROOT / "docs" / "runbooks"
SECONDS = 120.0
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_FAILED = re.compile(r"^FAILED (.*)$", re.MULTILINE)


@dataclass
class Incident:
    """An organization that is live, and somebody who follows a page."""

    setup: OrganizationsSetup
    folder: Path
    path: str
    key: str

    async def sent(self) -> int:
        """Send a delivery with the key and address that the subscription had; return the status."""
        body = invitee_body()
        headers = {SIGNATURE: sign(body, self.key), "Content-Type": "application/json"}
        return (await self.setup.client.post(self.path, content=body, headers=headers)).status_code

    async def token(self) -> str:
        """Make a new token of the same user, put it into the file that the pages name, and return it."""
        token: str = (await self.setup.simulate("tokens"))["token"]
        self.folder.joinpath("token.txt").write_text(token, encoding="ascii")
        return token

    async def one(self, query: str) -> str:
        """Ask the database for one value."""
        [[value]] = await self.setup.rows(query)
        return str(value)

    async def follow(self, page: str, names: Mapping[str, str]) -> tuple[str, list[str]]:
        """Run a page's commands in their order, in one shell; return what was printed, and the commands that failed."""
        commands = ["set -uo pipefail", "trap 'echo FAILED $BASH_COMMAND' ERR"]
        shown: list[str] = []
        for kind, body in _BLOCK.findall(RUNBOOKS.joinpath(page).read_text(encoding="utf-8")):
            text = re.sub(r"^   ", "", body, flags=re.MULTILINE)
            if kind == "sh":
                commands.append(text)
            else:
                shown += text.splitlines()
        script = "\n".join(commands).replace("https://api.calendly.com", self.setup.calendly.url)
        for name, value in names.items():
            script = re.sub(rf"\b{name}\b", value, script)
        child = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=self.folder,
            env=environment(
                self.setup.settings,
                SLOTWIRE_CALENDLY__API_URL=self.setup.calendly.url,
                PATH=f"{self.folder}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(SECONDS):
                printed, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
        told, place = printed.decode(), 0
        for line in shown:
            found = fits(line).search(told, place)
            assert found, f"{line}\nis not in\n{told[place:]}"
            place = found.end()
        return told, _FAILED.findall(told)


@pytest.fixture
async def incident(database: Database, tmp_path: Path) -> AsyncIterator[Incident]:
    """An organization with a booking, whose subscription's address and key somebody else knows."""
    async with organizations_setup(database, organizations=1) as setup:
        await setup.add()
        [theirs] = setup.calendly.engine.ledger.subscriptions()
        assert theirs.signing_key is not None
        fork_server.put_command(tmp_path)
        tmp_path.joinpath("token.txt").write_text(setup.calendly.owner_token, encoding="ascii")
        await setup.simulate("book")
        await setup.settled()
        yield Incident(setup, tmp_path, theirs.url, theirs.signing_key)


async def test_a_signing_key_leaked(incident: Incident) -> None:
    """The key is refused, a new subscription serves, bookings are fetched; at last the organization is removed."""
    assert await incident.sent() == 200
    names = {
        "KEY_ID": await incident.one("SELECT id FROM slotwire.signing_keys"),
        "SUBSCRIPTION_ID": await incident.one("SELECT id FROM slotwire.subscriptions"),
        "ORG": incident.setup.org,
    }
    told, failed = await incident.follow("signing-key-leaked.md", names)
    assert failed == [], told
    assert "fetched 1 meetings with 1 invitees: 0 new, 1 known" in told
    assert "revoked 1 signing key: nothing more is accepted" in told  # the new one's, with the organization
    assert await incident.sent() == 401
    assert incident.setup.calendly.engine.ledger.subscriptions() == ()
    assert incident.key not in told


async def test_a_key_of_the_management_api_leaked(incident: Incident) -> None:
    """The key and the one it made are refused, the audit shows what it did, and its owner has a new one."""
    setup = incident.setup
    leaked = await setup.actions.keys.create(COMMAND_LINE, KeyRequest(role=Role.ADMIN, label="leaked"))
    made = (await setup.api.ask("POST", "/v1/keys", leaked.key, json={"role": "admin", "label": "theirs"})).json()
    names = {"KEY_ID": str(leaked.id), "MADE_ID": made["id"], "ORG": setup.org}
    told, failed = await incident.follow("api-key-leaked.md", names)
    assert failed == [], told
    assert re.search(rf"keys\.create +done .*{made['id']} +{leaked.id}", told)
    for key in (leaked.key, made["key"]):
        assert (await setup.api.ask("GET", "/v1/events", key)).status_code == 401
        assert key not in told
    [new] = re.findall(r"^slw_\S+$", told, re.MULTILINE)
    assert (await setup.api.ask("GET", "/v1/events", new)).status_code == 200


async def test_a_calendly_token_leaked(incident: Incident) -> None:
    """The old token is found revoked, the new one takes its place, and the subscription and its key stay."""
    setup = incident.setup
    old = setup.calendly.owner_token
    await setup.simulate("tokens/state", token=old, state="revoked")
    new = await incident.token()
    names = {
        "CONNECTION_ID": await incident.one("SELECT id FROM slotwire.connections"),
        "ORGANIZATION_URI": setup.calendly.organization,
        "ORG": setup.org,
    }
    told, failed = await incident.follow("calendly-token-leaked.md", names)
    assert failed == [f"slotwire connections check {names['CONNECTION_ID']}"], told  # the first of the two
    assert "it cannot act: revoked (refused)" in told
    assert await incident.one("SELECT state FROM slotwire.connections") == "active"
    assert '"collection"' in told
    assert await incident.sent() == 200
    for token in (old, new):
        assert token not in told


async def test_a_key_of_the_vault_leaked(incident: Incident) -> None:
    """Everything is sealed with the new key, and every signing key is another one."""
    told, failed = await incident.follow("vault-key-leaked.md", {})
    assert failed == [], told
    assert "no secret uses 'test' any more." in told
    rows = await incident.setup.rows(
        "SELECT sealed FROM slotwire.signing_keys UNION SELECT sealed FROM slotwire.connections"
    )
    assert {row["sealed"][:4] for row in rows} == {b"\x01\x02k2"}
    assert await incident.sent() != 200
    [theirs] = incident.setup.calendly.engine.ledger.subscriptions()
    assert theirs.signing_key != incident.key
