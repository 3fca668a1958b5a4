"""`slotwire connections` as an operator types it, and the same by HTTP: nothing shows a token, all of it is audited."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slotwire.ingest.cli.token_file import MAX_TOKEN_FILE_BYTES
from slotwire.ingest.control.calendly_client.addresses import MAX_TOKEN_LENGTH
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import Role
from slotwire.schemas.events import ConnectionConnected, ConnectionRevoked
from slotwire.schemas.topics import OPERATIONS
from tests.support.command import CommandResult, environment, slotwire
from tests.support.connections_setup import ConnectionsSetup, connections_setup
from tests.support.management_api import management_api
from tests.support.relay_setup import committed_records, drain, header, leading_relay, relay_setup
from tests.support.writing import write_all


@pytest.fixture
async def setup(database: Database) -> AsyncIterator[ConnectionsSetup]:
    """Two organizations at a simulator, known here and not connected."""
    async with connections_setup(database) as made:
        yield made


async def typed(setup: ConnectionsSetup, *arguments: str, stdin: str | None = None) -> CommandResult:
    """Run `slotwire connections …`."""
    env = environment(setup.settings, SLOTWIRE_CALENDLY__API_URL=setup.settings.calendly.api_url)
    return await slotwire("connections", *arguments, env=env, stdin=stdin)


async def rows(setup: ConnectionsSetup, *arguments: str, stdin: str | None = None) -> list[dict[str, object]]:
    """Run a command that prints JSON lines, and read them."""
    ran = await typed(setup, *arguments, "--json", stdin=stdin)
    assert (ran.code, ran.stderr) == (0, "")
    return [json.loads(line) for line in ran.stdout.splitlines()]


async def test_the_life_of_a_connection(setup: ConnectionsSetup) -> None:
    """Add, add again, list, show, check, delete: each says what is now, and none ever shows the token."""
    token = setup.token().get_secret_value()
    empty = await typed(setup, "list")
    assert (empty.code, empty.stdout) == (0, "")
    assert "slotwire organizations add" in empty.stderr
    first = await typed(setup, "add", "--token-file", "-", stdin=token + "\n")
    assert (first.code, first.stderr) == (0, "connected\n")
    second = await typed(setup, "add", "--token-file", "-", "--organization", setup.org(), stdin=token)
    assert (second.code, second.stderr) == (0, "already connected; the new token replaces the old one\n")
    [listed] = await rows(setup, "list")
    assert await rows(setup, "list", "--organization", setup.org(1)) == []
    [shown] = await rows(setup, "show", str(listed["id"]))
    assert {**shown, "can": None} == {**listed, "can": None}
    assert (shown["state"], shown["role"], shown["organization"]) == ("active", "owner", setup.org())
    [checked] = await rows(setup, "check", str(listed["id"]))
    assert checked["state"] == "active"
    table = await typed(setup, "show", str(listed["id"]))
    assert ["user", "uri", shown["user_uri"]] in [line.split() for line in table.stdout.splitlines()]
    [gone] = await rows(setup, "delete", str(listed["id"]))
    assert gone["id"] == listed["id"]
    assert await rows(setup, "list") == []
    for said in (first, second, table):
        assert token not in said.stdout + said.stderr
    assert token not in json.dumps([listed, shown, checked, gone])
    audited = await setup.rows("SELECT action, org, target FROM slotwire.audit WHERE result = 'done' ORDER BY id")
    assert [row["action"] for row in audited] == [f"connections.{verb}" for verb in ("add", "add", "check", "delete")]
    assert {(row["org"], row["target"]) for row in audited} == {(setup.org(), str(listed["id"]))}


async def test_a_check_of_a_revoked_one_fails(setup: ConnectionsSetup) -> None:
    """`check` shows what is now and exits with 1 when nothing can be done with it, saying what to do."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    ran = await typed(setup, "check", str(made.id))
    assert ran.code == 1
    assert "revoked" in ran.stdout
    assert "it cannot act: revoked (refused)" in ran.stderr
    assert "slotwire connections add --token-file FILE" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "00000000-0000-0000-0000-000000000000"), "no such connection"),
        (("check", "00000000-0000-0000-0000-000000000000"), "no such connection"),
        (("delete", "00000000-0000-0000-0000-000000000000"), "no such connection"),
        (("add", "--token-file", "/nowhere"), "no such file"),
        (("add", "--token-file", "-", "--organization", "OTHER"), "belongs to another organization"),
    ],
)
async def test_mistakes_are_told(setup: ConnectionsSetup, arguments: tuple[str, ...], words: str) -> None:
    """A mistake is a few lines on standard error that name it, exit code 1, and never a stack trace or the token."""
    token = setup.token().get_secret_value()
    ran = await typed(setup, *arguments, stdin=token)
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr.startswith("slotwire: ")
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) <= 4
    assert token not in ran.stderr


async def test_a_token_is_never_an_argument(setup: ConnectionsSetup, tmp_path: Path) -> None:
    """There is no option that takes a token itself; a file that is too long or no token is refused unseen."""
    token = setup.token().get_secret_value()
    assert (await typed(setup, "add", "--token", token)).code == 2
    file = tmp_path / "token"
    for text, words in (
        (token.ljust(MAX_TOKEN_FILE_BYTES + 1), "too long"),
        (" \n", "empty"),
        ("two words", "not a Calendly token"),
    ):
        file.write_text(text, encoding="ascii")
        ran = await typed(setup, "add", "--token-file", str(file))
        assert ran.code == 1
        assert words in ran.stderr
        assert token not in ran.stderr
    file.write_text(token.ljust(MAX_TOKEN_FILE_BYTES), encoding="ascii")
    assert (await typed(setup, "add", "--token-file", str(file))).code == 0


async def test_by_http(setup: ConnectionsSetup) -> None:
    """POST connects with 201, then 200; GET, check and DELETE say what is; no answer has the token."""
    token = setup.token()
    body = {"token": token.get_secret_value()}
    async with management_api(setup.settings) as api:
        operator, reader = await api.key(Role.OPERATOR), await api.key(Role.READER)
        path = f"/v1/organizations/{setup.org()}/connections"
        answers = [await api.ask("POST", path, operator, json=body) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200]
        made = answers[1].json()["connection"]
        assert answers[0].json()["connection"]["id"] == made["id"]
        page = (await api.ask("GET", path, reader)).json()
        assert page == {"items": [made], "next_cursor": None}
        one = f"{path}/{made['id']}"
        assert (await api.ask("GET", one, reader)).json() == {**made, "can": None}
        await setup.revoke(token)
        checked = await api.ask("POST", f"{one}/check", operator)
        assert (checked.status_code, checked.json()["state"]) == (200, "revoked")
        elsewhere = f"/v1/organizations/{setup.org(1)}/connections"
        for method, where in (("GET", f"{elsewhere}/{made['id']}"), ("DELETE", f"{elsewhere}/{made['id']}")):
            missing = await api.ask(method, where, operator)
            assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        other = await api.ask("POST", elsewhere, operator, json={"token": (await setup.issue()).get_secret_value()})
        assert (other.status_code, other.json()["code"]) == (422, "token_of_another_organization")
        refused = await api.ask("POST", path, operator, json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "calendly_credential")
        gone = await api.ask("DELETE", one, operator)
        assert (gone.status_code, gone.json()["id"]) == (200, made["id"])
        assert (await api.ask("DELETE", one, operator)).status_code == 404
    said = "".join(answer.text for answer in (*answers, checked, other, refused, gone))
    assert token.get_secret_value() not in said


async def test_the_longest_token_by_http(setup: ConnectionsSetup) -> None:
    """The longest token is asked about at Calendly; one character more is refused before, unseen."""
    async with management_api(setup.settings) as api:
        key, path = await api.key(), f"/v1/organizations/{setup.org()}/connections"
        longest = await api.ask("POST", path, key, json={"token": "x" * MAX_TOKEN_LENGTH})
        # Calendly's answer, whatever it is: ours let it through.
        assert longest.json()["code"].startswith("calendly_")
        calls = len(await setup.calls())
        longer = await api.ask("POST", path, key, json={"token": "x" * (MAX_TOKEN_LENGTH + 1)})
        assert (longer.status_code, longer.json()["code"]) == (400, "body_invalid")
        assert len(await setup.calls()) == calls
        assert "xxx" not in longest.text + longer.text


async def test_a_revoked_credential_reaches_kafka(
    setup: ConnectionsSetup, database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """The relay publishes the event on the topic of operations, keyed by the organization, like any other."""
    token = setup.token()
    made = (await setup.connections.add(token)).connection
    await setup.revoke(token)
    assert (await setup.connections.check(made.id)).state == "revoked"
    assert await write_all(setup.settings, clock=setup.clock) == 2
    async with (
        relay_setup(database, kafka_bootstrap, topic_prefix) as relaying,
        leading_relay(relaying.settings) as (relay, _),
    ):
        assert await drain(relay) == 2
        connected, record = await committed_records(relaying.settings, 2, OPERATIONS)
    assert header(connected, "ce_type") == ConnectionConnected.type
    assert record.topic == f"{topic_prefix}slotwire.operations"
    assert record.key == made.organization.encode()
    assert header(record, "ce_type") == ConnectionRevoked.type
    assert header(record, "ce_source") == f"/organizations/{made.org}"
    assert header(record, "ce_tenant") == f"customer-{made.org}"
    assert header(record, "traceparent") is None
    assert record.value is not None
    assert ConnectionRevoked.model_validate_json(record.value).connection_id == made.id
