"""`slotwire organizations` as an operator types it: from a token to live events, and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from slotwire.ingest.cli.token_file import MAX_TOKEN_FILE_BYTES
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from tests.support.command import CommandResult, environment, slotwire
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE
from tests.support.writing import writing


@dataclass(frozen=True)
class Terminal:
    """Where commands are typed."""

    env: dict[str, str]
    calendly: Simulator
    settings: Settings

    @property
    def orgs(self) -> list[str]:
        """The simulated organizations."""
        return list(self.calendly.world.organizations)

    def token(self, org: str, role: str = "owner") -> str:
        """The token of a member of an organization."""
        user = next(each for each in self.calendly.world.members(org) if each.role == role)
        return next(each.value for each in self.calendly.world.tokens if each.user == user.id)

    async def type(self, *arguments: str, stdin: str | None = None) -> CommandResult:
        """Run `slotwire …` to its end."""
        return await slotwire(*arguments, env=self.env, stdin=stdin)

    async def rows(self, *arguments: str, stdin: str | None = None) -> list[dict[str, Any]]:
        """Run a command that prints JSON lines, and read them."""
        ran = await self.type(*arguments, "--json", stdin=stdin)
        assert ran.code == 0, ran.stderr
        return [json.loads(line) for line in ran.stdout.splitlines()]

    async def add(self, *options: str, org: str | None = None) -> CommandResult:
        """Add an organization by its owner's token from standard input."""
        return await self.type(
            "organizations", "add", "--token-file", "-", *options, stdin=self.token(org or self.orgs[0]) + "\n"
        )

    async def simulate(self, verb: str, **body: object) -> None:
        """Make something happen at the simulated Calendly."""
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(f"{self.calendly.url}/simulator/{verb}", json=body)
        assert answer.is_success, answer.text


@pytest.fixture
async def terminal(database: Database) -> AsyncIterator[Terminal]:
    """A terminal with the settings of one database and one simulator with two organizations."""
    async with simulator(Options(seed="terminal", organizations=2, rate_limit=AMPLE)) as calendly:
        settings = settings_for(database)
        yield Terminal(environment(settings, SLOTWIRE_CALENDLY__API_URL=calendly.url), calendly, settings)


async def test_the_life_of_an_organization(terminal: Terminal) -> None:
    """Add, add again, list, show, remove: each says what is now, and none ever shows token, hook or signing key."""
    org = terminal.orgs[0]
    empty = await terminal.type("organizations", "list")
    assert (empty.code, empty.stdout) == (0, "")
    assert "slotwire organizations add --token-file FILE" in empty.stderr
    added = await terminal.add("--external-id", "customer-1")
    assert (added.code, added.stderr) == (0, "customer-1 is live\n")
    assert added.stdout.startswith("organization ")
    assert "invitee.created" in added.stdout
    again = await terminal.add("--organization", org)
    assert (again.code, again.stderr) == (0, "customer-1 is live already; no subscription was made\n")
    [known] = terminal.calendly.engine.ledger.subscriptions()
    table = await terminal.type("organizations", "list")
    shown = await terminal.type("organizations", "show", org)
    assert [org, "customer-1", "1", "active"] in [line.split()[:4] for line in table.stdout.splitlines()]
    assert ["external_id:", "customer-1"] in [line.split() for line in shown.stdout.splitlines()]
    assert "wanted:        organization: invitee.created, " in shown.stdout
    removed = await terminal.type("organizations", "remove", org)
    assert (removed.code, removed.stderr) == (0, "")
    assert removed.stdout == "ended 1 subscription at Calendly, deleted 1 credential, revoked 0 keys\n"
    assert terminal.calendly.engine.ledger.subscriptions() == ()
    assert (await terminal.type("organizations", "list")).stdout == ""
    ended = await terminal.type("organizations", "list", "--ended")
    assert org in ended.stdout
    said = "".join(ran.stdout + ran.stderr for ran in (added, again, table, shown, removed, ended))
    assert known.signing_key is not None
    for secret in (terminal.token(org), known.url.rpartition("/")[2], known.signing_key):
        assert secret not in said


async def test_a_name_is_changed_by_its_own_command(terminal: Terminal) -> None:
    """`add` with another name changes nothing and names `rename`, which changes it, and takes it away."""
    org = terminal.orgs[0]
    await terminal.add("--external-id", "customer-1")
    refused = await terminal.add("--external-id", "customer-2")
    assert (refused.code, refused.stdout) == (1, "")
    assert "has another external id" in refused.stderr
    assert f"slotwire organizations rename {org} NAME" in refused.stderr
    renamed = await terminal.type("organizations", "rename", org, "customer-2")
    assert (renamed.code, renamed.stdout) == (0, f"{org} is customer-2 now\n")
    [listed] = await terminal.rows("organizations", "list")
    assert listed["external_id"] == "customer-2"
    [bare] = await terminal.rows("organizations", "rename", org, "--none")
    assert bare["external_id"] is None
    for wrong in ((), ("customer-3", "--none")):
        assert (await terminal.type("organizations", "rename", org, *wrong)).code == 2
    unknown = await terminal.type("organizations", "rename", "NOBODY", "x")
    assert (unknown.code, "there is no such organization" in unknown.stderr) == (1, True)


async def test_programs_read_the_same_as_json(terminal: Terminal) -> None:
    """Every command prints one object a line with `--json`, and nothing but it on standard output."""
    org = terminal.orgs[0]
    token = terminal.token(org)
    [added] = await terminal.rows("organizations", "add", "--token-file", "-", "--backfill-days", "1", stdin=token)
    assert added["new"] is True
    assert added["organization"]["organization"] == org
    [listed] = await terminal.rows("organizations", "list")
    assert (listed["organization"], listed["subscriptions"], listed["connections"]) == (org, 1, ["active"])
    [shown] = await terminal.rows("organizations", "show", org)
    assert shown["wanted"][0]["scope"] == "organization"
    assert shown["compared"] is None
    assert {key: value for key, value in shown.items() if key not in {"wanted", "compared"}} == listed
    [removed] = await terminal.rows("organizations", "remove", org)
    assert (removed["left"], len(removed["ended"])) == ([], 1)
    assert await terminal.rows("organizations", "list") == []
    assert len(await terminal.rows("organizations", "list", "--ended")) == 1


async def test_what_was_booked_before_is_fetched(terminal: Terminal) -> None:
    """`--backfill-days` fetches it in the same command and says how much; again, all of it is known."""
    for _ in range(3):
        await terminal.simulate("book")
    async with writing(terminal.settings):
        first = await terminal.add("--backfill-days", "0")
        second = await terminal.add("--backfill-days", "0")
    assert first.code == 0
    assert "fetched 3 meetings with 3 invitees: 3 new, 0 known" in first.stderr
    assert "written" not in first.stderr
    assert "fetched 3 meetings with 3 invitees: 0 new, 3 known" in second.stderr
    [shown] = await terminal.rows("organizations", "show", terminal.orgs[0])
    assert shown["backfill_from"] is None


async def test_a_backfill_without_a_writer_is_said_to_be_unwritten(terminal: Terminal) -> None:
    """After a bounded wait the command says that what was fetched is accepted, where, and what to look at."""
    await terminal.simulate("book")
    added = await terminal.add("--backfill-days", "0")
    assert added.code == 0
    assert "1 invitees: 0 new, 0 known, 1 accepted at 2, not yet written\n" in added.stderr
    assert "`slotwire doctor` tells" in added.stderr


async def test_recaps_come_for_the_tokens_user(terminal: Terminal) -> None:
    """Events that Calendly sends for one user only get a line of their own."""
    added = await terminal.add("--event", "invitee.created", "--event", "meeting_recap.created")
    assert [line.split()[0] for line in added.stdout.splitlines()] == ["organization", "user"]
    shown = await terminal.type("organizations", "show", terminal.orgs[0])
    wanted = [line for line in shown.stdout.splitlines() if line.startswith("wanted:")]
    assert len(wanted) == 2
    assert wanted[1].endswith(": meeting_recap.created")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "--token-file", "/nowhere/token"), "no such file"),
        (("add", "--token-file", "-", "--organization", "OTHER"), "belongs to another organization"),
        (("add", "--token-file", "-", "--organization", "a b"), "organization"),
        (("add", "--token-file", "-", "--event", "invitee.rescheduled"), "no event"),
        (("add", "--token-file", "-", "--external-id", "x" * 201), "external_id"),
        (("add", "--token-file", "-", "--backfill-days", "3651"), "backfill_days"),
        (("show", "NOBODY"), "no such organization"),
        (("remove", "NOBODY"), "no such organization"),
    ],
)
async def test_what_cannot_be_is_said_in_words(arguments: tuple[str, ...], words: str, terminal: Terminal) -> None:
    """A mistake is a few lines on standard error that name it, exit code 1, and never a stack trace or the token."""
    token = terminal.token(terminal.orgs[0])
    ran = await terminal.type("organizations", *arguments, stdin=token)
    assert (ran.code, ran.stdout) == (1, "")
    assert words in ran.stderr
    assert ran.stderr.startswith("slotwire: ")
    assert len(ran.stderr.splitlines()) <= 4
    assert token not in ran.stderr
    assert terminal.calendly.engine.ledger.subscriptions() == ()


async def test_tokens_that_are_not_enough(terminal: Terminal) -> None:
    """An unknown token, a member's, one with too few scopes: each is refused with what to do, and nothing is stored."""
    org = terminal.orgs[0]
    member = next(each for each in terminal.calendly.world.members(org) if each.role == "user")
    narrow = await terminal.type("simulate", "token", "--user", member.id, "--scope", "users:read")
    for token, words in (
        ("nobodys-token", "did not accept the token"),
        (terminal.token(org, "user"), "owner or admin is needed"),
        (narrow.stdout.strip(), "it lacks the scopes"),
    ):
        ran = await terminal.type("organizations", "add", "--token-file", "-", stdin=token)
        assert (ran.code, ran.stdout) == (1, ""), words
        assert words in ran.stderr
        assert "\n  " in ran.stderr  # what to do
        assert token not in ran.stderr
    assert await terminal.rows("organizations", "list", "--ended") == []


async def test_a_token_comes_from_a_file(terminal: Terminal, tmp_path: Path) -> None:
    """The file is read up to its limit; empty or longer is refused without being shown; no option takes a token."""
    file, token = tmp_path / "token", terminal.token(terminal.orgs[0])
    for text, words in (
        (token.ljust(MAX_TOKEN_FILE_BYTES + 1), "too long"),
        (" \n", "empty"),
        ("two words", "not a Calendly token"),
    ):
        file.write_text(text, encoding="ascii")
        ran = await terminal.type("organizations", "add", "--token-file", str(file))
        assert ran.code == 1
        assert words in ran.stderr
        assert token not in ran.stderr
    file.write_text(token.ljust(MAX_TOKEN_FILE_BYTES), encoding="ascii")
    assert (await terminal.type("organizations", "add", "--token-file", str(file))).code == 0
    assert (await terminal.type("organizations", "add", "--token", token)).code == 2


async def test_of_several_organizations_one_must_be_named(terminal: Terminal) -> None:
    """A command takes the only organization there is; where there are two it asks for a name."""
    one, two = terminal.orgs
    await terminal.add(org=one)
    assert (await terminal.type("subscriptions", "create")).code == 0
    await terminal.add(org=two)
    unnamed = await terminal.type("subscriptions", "create")
    assert unnamed.code == 1
    assert "there are several organizations" in unnamed.stderr
    assert "slotwire organizations list" in unnamed.stderr
    named = await terminal.type("subscriptions", "create", "--organization", two)
    assert (named.code, named.stderr) == (0, "already subscribed; nothing was changed\n")
    assert {row["organization"] for row in await terminal.rows("subscriptions", "list", "--at-calendly")} == {one, two}


async def test_what_could_not_be_removed_ends_with_1(terminal: Terminal) -> None:
    """With a revoked token it says what Calendly still has, and that nothing was deleted; `--force` deletes."""
    org = terminal.orgs[0]
    await terminal.add()
    [known] = terminal.calendly.engine.ledger.subscriptions()
    await terminal.simulate("tokens/state", token=terminal.token(org), state="revoked")
    left = await terminal.type("organizations", "remove", org)
    assert left.code == 1
    assert f"left at Calendly: https://api.calendly.com/webhook_subscriptions/{known.id}: " in left.stderr
    assert "Nothing was deleted" in left.stderr
    again = await terminal.type("organizations", "remove", org, "--json")
    assert again.code == 1
    assert len(json.loads(again.stdout)["left"]) == 1
    forced = await terminal.type("organizations", "remove", org, "--force")
    assert forced.code == 1
    assert "deleted 1 credential" in forced.stdout
    assert (await terminal.type("organizations", "list")).stdout == ""
    gone = await terminal.type("organizations", "remove", org)
    assert (gone.code, gone.stderr) == (0, "")
