"""The how-to of connecting an account: its commands run as they stand, against the simulator, and show what it says."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from slotwire.ingest.foundation.settings import CalendlySettings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.world import oauth_app
from slotwire.schemas.ids import last_segment
from tests.integration.test_management_howto import fits
from tests.support import fork_server
from tests.support.children import free_port
from tests.support.command import CommandResult, environment, shell
from tests.support.public_endpoint import running_endpoint, settings_for
from tests.support.simulated_calendly import AMPLE
from tests.support.writing import until_written, writing
from tools.documents import ROOT

HOWTO = ROOT / "docs" / "howto" / "connect-calendly.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIES = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ|^\d+ ")


@dataclass
class Reader:
    """Somebody who follows the page: types its commands, and lets happen what the page says has happened."""

    calendly: Simulator
    database: Database
    env: dict[str, str]
    folder: Path
    url: str

    @property
    def org(self) -> str:
        """The simulated organization."""
        return last_segment(self.calendly.organization)

    @property
    def second(self) -> str:
        """The other one."""
        return list(self.calendly.world.organizations)[1]

    async def type(self, line: str) -> CommandResult:
        """Run a line of the page, with the addresses of this test in place of the example's."""
        org = self.second if "customer-2" in line else self.org
        line = re.sub(r"\bORG\b", org, line.replace("https://hooks.example.com", self.url))
        return await shell(line, env=self.env, cwd=self.folder)

    async def simulate(self, verb: str, **body: Any) -> Any:
        """Make something happen at the simulated Calendly."""
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(f"{self.calendly.url}/simulator/{verb}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def settled(self) -> None:
        """Wait until everything that happened is delivered and written."""
        await self.calendly.engine.sender.idle()
        await until_written(self.database.owner_url)

    async def token(self, name: str, **options: Any) -> None:
        """Put a new token into a file."""
        self.folder.joinpath(name).write_text((await self.simulate("tokens", **options))["token"], encoding="ascii")

    async def revoke(self) -> None:
        """Revoke the token that is in use."""
        await self.simulate("tokens/state", token=self.folder.joinpath("token.txt").read_text(), state="revoked")


async def _told_before(reader: Reader) -> None:
    """Three bookings and a cancellation come by webhook, then a booking while nothing is subscribed."""
    await reader.token("token.txt")
    assert (await reader.type("slotwire organizations add --token-file token.txt")).code == 0
    for verb in ("book", "book", "book", "cancel"):
        await reader.simulate(verb)
    await reader.settled()
    assert (await reader.type("slotwire organizations remove ORG")).code == 0
    await reader.simulate("book")


async def _booked(reader: Reader) -> None:
    await reader.simulate("book")
    await reader.settled()


async def _revoked(reader: Reader) -> None:
    await reader.revoke()
    assert (await reader.type("slotwire subscriptions list --at-calendly")).code == 1
    await reader.token("token.txt")


async def _second(reader: Reader) -> None:
    await reader.token("customer-2.txt", organization=reader.second)


async def _only_one(reader: Reader) -> None:
    """What was wanted of users ends, so that the removal that is shown has one subscription to end."""
    for line in (await reader.type("slotwire subscriptions list")).stdout.splitlines():
        if " user https:" in line and " active " in line:
            assert (await reader.type(f"slotwire subscriptions delete {line.split()[0]}")).code == 0


BEFORE: dict[str, Callable[[Reader], Awaitable[None]]] = {
    "slotwire organizations add --token-file token.txt --external-id customer-1 --backfill-days 30": _told_before,
    "slotwire organizations add --token-file customer-2.txt --external-id customer-2 --organization ORG": _second,
    "slotwire events list --limit 1": _booked,
    "slotwire connections add --token-file token.txt": _revoked,
    "slotwire organizations remove ORG": _only_one,
}
"""What happens before a command of the page."""
FAILS = {"slotwire organizations add --token-file narrow.txt"}
"""What the page shows because it is refused."""


async def _by_a_member(reader: Reader) -> CommandResult:
    member = next(each for each in reader.calendly.world.members(reader.org) if each.role == "user")
    await reader.token("member.txt", user=member.id, scopes=["users:read", "organizations:read"])
    return await reader.type("slotwire organizations add --token-file member.txt")


async def _left(reader: Reader) -> CommandResult:
    assert (await reader.type("slotwire organizations add --token-file token.txt")).code == 0
    await reader.revoke()
    return await reader.type("slotwire organizations remove ORG")


REFUSALS: dict[str, Callable[[Reader], Awaitable[CommandResult]]] = {
    "slotwire: the token cannot subscribe": _by_a_member,
    "ended 0 subscriptions": _left,
}
"""Outputs that the page shows of a command gone wrong, by their beginning."""


@pytest.fixture
async def reader(database: Database, tmp_path: Path) -> AsyncIterator[Reader]:
    """Somebody with an account at the simulator, whose ids are those of `slotwire local`, `serve` and a writer."""
    port = free_port()
    async with simulator(Options(organizations=2, rate_limit=AMPLE)) as calendly:
        settings = settings_for(database, port=port).model_copy(
            update={
                "public_url": f"http://127.0.0.1:{port}",
                "calendly": CalendlySettings(api_url=calendly.url, assumed_calls_per_minute=AMPLE),
            }
        )
        programs = tmp_path / "programs"
        programs.mkdir()
        fork_server.put_command(programs)
        path = f"{programs}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        app = oauth_app(calendly.engine.seed)
        env = environment(
            settings,
            SLOTWIRE_CALENDLY__API_URL=calendly.url,
            SLOTWIRE_OAUTH__CLIENT_ID=app.client_id,
            SLOTWIRE_OAUTH__CLIENT_SECRET=app.client_secret,
            SLOTWIRE_OAUTH__SIGNING_KEYS=app.signing_key,
            SLOTWIRE_OAUTH__INTEGRATOR="Example Scheduling",
            SLOTWIRE_OAUTH__RETURN_URLS="https://app.example.com/connected",
            PATH=path,
        )
        async with running_endpoint(settings), writing(settings):
            yield Reader(calendly, database, env, tmp_path, f"http://127.0.0.1:{port}")


async def test_its_commands_run_and_show_what_it_says(reader: Reader) -> None:
    """From nothing to live events and back: every line that is shown is printed, in order, and no token with it."""
    ran, said = CommandResult(0, "", ""), list[str]()
    for kind, body in _BLOCK.findall(HOWTO.read_text(encoding="utf-8")):
        if kind == "sh":
            for line in body.splitlines():
                if happens := BEFORE.get(line):
                    await happens(reader)
                ran = await reader.type(line)
                assert ran.code == int(line in FAILS), f"{line}\n{ran}"
            continue
        for beginning, go_wrong in REFUSALS.items():
            if body.startswith(beginning):
                ran = await go_wrong(reader)
                assert ran.code == 1, ran
        said.append(ran.stdout + ran.stderr)
        for line in body.splitlines():
            assert fits(_VARIES.sub("…", line)).search(said[-1]), f"{line}\nis not in\n{said[-1]}"
    for file in reader.folder.glob("*.txt"):
        assert file.read_text().strip() not in "".join(said)
