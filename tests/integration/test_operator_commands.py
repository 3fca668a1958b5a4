"""`slotwire keys`, `subscriptions` and `events` as an operator types them: real database, simulated Calendly."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.simulator.app import Options, Simulator, simulator
from slotwire.ingest.simulator.model import uri
from slotwire.schemas.ids import last_segment
from tests.support.command import CommandResult, environment, slotwire
from tests.support.fork_server import piped
from tests.support.management_api import management_api, write_events
from tests.support.public_endpoint import settings_for
from tests.support.simulated_calendly import AMPLE


@dataclass(frozen=True)
class Terminal:
    """Where commands are typed."""

    env: dict[str, str]
    calendly: Simulator

    async def type(self, *arguments: str, stdin: str | None = None) -> CommandResult:
        """Run a command to its end."""
        return await slotwire(*arguments, env=self.env, stdin=stdin)

    async def rows(self, *arguments: str, stdin: str | None = None) -> list[dict[str, object]]:
        """Run a command that prints JSON lines, and read them."""
        ran = await self.type(*arguments, "--json", stdin=stdin)
        assert (ran.code, ran.stderr) == (0, "")
        return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
async def terminal(database: Database) -> AsyncIterator[Terminal]:
    """A terminal with the settings of one database and one simulator."""
    async with simulator(Options(seed="operator", rate_limit=AMPLE)) as calendly:
        env = environment(settings_for(database), SLOTWIRE_CALENDLY__API_URL=calendly.url)
        yield Terminal(env, calendly)


async def test_the_life_of_a_key(terminal: Terminal, database: Database) -> None:
    """A key is shown once on standard output, alone; it works until it is revoked; no list shows it."""
    made = await terminal.type("keys", "api", "create", "--role", "reader", "--label", "dashboards")
    key = made.stdout.strip()
    assert (made.code, made.stdout) == (0, f"{key}\n")
    assert key.startswith("slw_")
    async with management_api(settings_for(database)) as api:
        assert (await api.ask("GET", "/v1/events", key)).status_code == 200
        [listed] = await terminal.rows("keys", "api", "list")
        assert (listed["role"], listed["label"], listed["organization"]) == ("reader", "dashboards", None)
        assert key not in json.dumps(listed)
        [revoked] = await terminal.rows("keys", "api", "revoke", str(listed["id"]))
        assert revoked["revoked_at"]
        assert (await api.ask("GET", "/v1/events", key)).status_code == 401
    table = await terminal.type("keys", "api", "list")
    assert table.stdout.splitlines()[0].split() == [
        "ID",
        "ROLE",
        "ORGANIZATION",
        "CREATED",
        "LAST",
        "USED",
        "REVOKED",
        "LABEL",
    ]
    assert "dashboards" in table.stdout


async def test_a_key_in_json_is_one_object(terminal: Terminal) -> None:
    """`create --json` prints one object with the key in it."""
    [made] = await terminal.rows("keys", "api", "create", "--role", "admin")
    assert str(made["key"]).startswith("slw_")
    assert made["role"] == "admin"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("keys", "api", "create", "--role", "boss"), "'reader', 'operator' or 'admin'"),
        (("keys", "api", "create", "--role", "reader", "--organization", "NOBODY"), "no such organization"),
        (("keys", "api", "revoke", "00000000-0000-0000-0000-000000000000"), "no such key"),
        (("subscriptions", "delete", "00000000-0000-0000-0000-000000000000"), "no such subscription"),
        (("subscriptions", "create"), "no organization yet"),
        (("subscriptions", "create", "--organization", "NOBODY"), "no connection"),
        (("subscriptions", "create", "--organization", "X", "--event", "invitee.rescheduled"), "no event"),
        (("subscriptions", "create", "--organization", "X", "--event", "meeting_recap.created"), "one user only"),
        (("subscriptions", "create", "--organization", "X", "--user", "x", "--group", "x"), "not both"),
        (("events", "show", "00000000-0000-0000-0000-000000000000"), "no such event"),
        (("events", "list", "--organization", "a b"), "organization"),
    ],
)
async def test_what_cannot_be_is_said_in_words(arguments: tuple[str, ...], words: str, terminal: Terminal) -> None:
    """A mistake is a few lines on standard error that name it, exit code 1, and never a stack trace."""
    ran = await terminal.type(*arguments)
    assert (ran.code, ran.stdout) == (1, "")
    assert words in ran.stderr
    assert ran.stderr.startswith("slotwire: ")
    assert len(ran.stderr.splitlines()) <= 4


async def test_the_life_of_a_subscription(terminal: Terminal) -> None:
    """Create, create again, list beside Calendly, delete, make anew: each says what is now, and never the hook."""
    token = terminal.calendly.owner_token
    added = await terminal.type("organizations", "add", "--token-file", "-", stdin=token)
    again = await terminal.type("subscriptions", "create")
    assert (added.code, again.code) == (0, 0)
    assert again.stderr == "already subscribed; nothing was changed\n"
    [known] = terminal.calendly.engine.ledger.subscriptions()
    [alone] = await terminal.rows("subscriptions", "list")
    [beside] = await terminal.rows("subscriptions", "list", "--at-calendly")
    assert (alone["state"], alone["at_calendly"]) == ("active", None)
    assert beside["at_calendly"] == {"state": "active", "retry_started_at": None}
    assert beside["organization"] == last_segment(terminal.calendly.organization)
    table = await terminal.type("subscriptions", "list", "--at-calendly")
    [ended] = await terminal.rows("subscriptions", "delete", str(alone["id"]))
    assert ended["state"] == "ended"
    assert not list(terminal.calendly.engine.ledger.subscriptions())
    anew = await terminal.type("subscriptions", "create", "--event", "invitee.created")
    assert (anew.code, anew.stderr) == (0, "subscribed\n")
    said = [added.stdout, again.stdout, table.stdout, anew.stdout, json.dumps([alone, beside, ended])]
    assert known.signing_key is not None
    for secret in (token, known.url.rpartition("/")[2], known.signing_key):
        assert secret not in "".join(said)


async def test_another_wish_takes_the_place_of_the_one_before(terminal: Terminal) -> None:
    """Other events make a new subscription beside the old one, until it is verified; a user's stands beside both."""
    token, user = terminal.calendly.owner_token, _owner(terminal.calendly)
    await terminal.type("organizations", "add", "--token-file", "-", stdin=token)
    [before] = await terminal.rows("subscriptions", "list")
    [wider] = await terminal.rows("subscriptions", "create", "--event", "invitee.created", "--event", "contact.created")
    await terminal.rows("subscriptions", "create", "--user", user, "--event", "meeting_recap.created")
    listed = await terminal.rows("subscriptions", "list")
    assert [(row["scope"], row["subject"], row["state"]) for row in listed] == [
        ("organization", None, "active"),
        ("organization", None, "active"),
        ("user", user, "active"),
    ]
    assert [row["id"] for row in listed[:2]] == [before["id"], wider["id"]]
    assert len(terminal.calendly.engine.ledger.subscriptions()) == 3
    [said] = await terminal.rows("subscriptions", "check")
    assert (said["finding"], said["subscription_id"], said["remedy"]) == ("replacing", before["id"], "wait")


async def test_subscriptions_are_made_with_the_stored_connection_only(terminal: Terminal) -> None:
    """No command of subscriptions takes a token, from a file or as an argument."""
    for verb in ("create", "list", "delete"):
        shown = await terminal.type("subscriptions", verb, "--help")
        assert shown.code == 0
        assert "--token" not in shown.stdout


def _owner(calendly: Simulator) -> str:
    return uri("users", calendly.world.members(last_segment(calendly.organization))[0].id)


async def test_events_are_listed_and_shown(terminal: Terminal, database: Database) -> None:
    """`list` gives the last ones in the log's order, `--after` the first ones after it, `show` one with its data."""
    written = [str(item) for item in await write_events(database, "ORG", 25)]
    last = await terminal.rows("events", "list")
    assert [row["id"] for row in last] == written[-20:]
    position = str(last[-3]["sequence"])
    assert [row["id"] for row in await terminal.rows("events", "list", "--after", position)] == written[-2:]
    narrow = ("--organization", "ORG", "--type", str(last[0]["type"]), "--subject", str(last[0]["subject"]))
    assert [row["id"] for row in await terminal.rows("events", "list", "--limit", "2", *narrow)] == written[-2:]
    assert await terminal.rows("events", "list", "--organization", "NOBODY") == []
    [event] = await terminal.rows("events", "show", written[0])
    assert (event["id"], event["data"]) == (written[0], {"uri": "x"})
    table = await terminal.type("events", "list", "--limit", "1")
    assert table.stdout.splitlines()[0].split() == ["POSITION", "TIME", "TYPE", "ID", "ORGANIZATION", "SUBJECT"]
    assert written[-1] in table.stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_events_are_followed(stop: signal.Signals, terminal: Terminal, database: Database) -> None:
    """`tail` prints what is committed after it began (or after a position), once each, until interrupted."""
    before = [str(item) for item in await write_events(database, "ORG", 2)]
    first = (await terminal.rows("events", "list"))[0]["sequence"]
    command = ("events", "tail", "--json", "--after", str(first))
    async with asyncio.timeout(120), piped(*command, env=terminal.env) as child:
        seen = [json.loads(await child.stdout.readline())["id"]]
        after = [str(item) for item in await write_events(database, "ORG", 3)]
        seen += [json.loads(await child.stdout.readline())["id"] for _ in after]
        child.send_signal(stop)
        rest = await child.stdout.read()
        code = await child.wait()
    assert seen == [before[1], *after]
    assert (rest, code) == (b"", 0)


async def test_keys_are_rotated_and_replacements_resumed(terminal: Terminal) -> None:
    """A rotation names the old and the new subscription; what has nothing to do says so; a contradiction is refused."""
    token = terminal.calendly.owner_token
    await terminal.type("organizations", "add", "--token-file", "-", stdin=token)
    [before] = await terminal.rows("subscriptions", "list")
    [rotated] = await terminal.rows("keys", "signing", "rotate")
    listed = await terminal.rows("subscriptions", "list")
    assert (rotated["subscription_id"], rotated["by"]) == (before["id"], listed[1]["id"])
    assert [row["state"] for row in listed] == ["active", "active"]
    both = await terminal.type("keys", "signing", "rotate", str(before["organization"]), "--all")
    assert (both.code, both.stdout) == (2, "")
    every = await terminal.type("keys", "signing", "rotate", "--all")
    assert (every.code, str(listed[1]["id"]) in every.stdout) == (0, True)
    again = await terminal.type("keys", "signing", "rotate", "--all")
    assert (again.code, again.stdout) == (0, "")
    assert "all are being replaced already" in again.stderr
    resumed = await terminal.type("subscriptions", "resume")
    assert (resumed.code, "0 wanted subscriptions" in resumed.stdout) == (0, True)
    confirmed = await terminal.type("subscriptions", "confirm-deletions")
    assert (confirmed.code, confirmed.stdout) == (0, "deletions were carried out already\n")
