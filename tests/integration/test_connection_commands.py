"""`slotwire connections` as an operator types it, and the same by HTTP: nothing shows a token, all of it is audited."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slotwire.ingest.cli.token_file import MAX_TOKEN_FILE_BYTES
from slotwire.ingest.control.calendly_client.transport import MAX_TOKEN_LENGTH
from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.roles import Role
from slotwire.schemas.events import ConnectionRevoked
from slotwire.schemas.topics import OPERATIONS
from tests.support.command import Ran, environment, slotwire
from tests.support.connected import Ground, grounded
from tests.support.managing import managing
from tests.support.relaying import committed, drain, header, leading, open_scene


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """Two organizations at a simulator, known here and not connected."""
    async with grounded(database) as made:
        yield made


async def typed(ground: Ground, *arguments: str, stdin: str | None = None) -> Ran:
    """Run `slotwire connections …`."""
    env = environment(ground.settings, SLOTWIRE_CALENDLY__API_URL=ground.settings.calendly.api_url)
    return await slotwire("connections", *arguments, env=env, stdin=stdin)


async def rows(ground: Ground, *arguments: str, stdin: str | None = None) -> list[dict[str, object]]:
    """Run a command that prints JSON lines, and read them."""
    ran = await typed(ground, *arguments, "--json", stdin=stdin)
    assert (ran.code, ran.stderr) == (0, "")
    return [json.loads(line) for line in ran.stdout.splitlines()]


async def test_the_life_of_a_connection(ground: Ground) -> None:
    """Add, add again, list, show, check, delete: each says what is now, and none ever shows the token."""
    token = ground.token().get_secret_value()
    empty = await typed(ground, "list")
    assert (empty.code, empty.stdout) == (0, "")
    assert "slotwire organizations add" in empty.stderr
    first = await typed(ground, "add", "--token-file", "-", stdin=token + "\n")
    assert (first.code, first.stderr) == (0, "connected\n")
    second = await typed(ground, "add", "--token-file", "-", "--organization", ground.org(), stdin=token)
    assert (second.code, second.stderr) == (0, "connected already; the token replaces the one before\n")
    [listed] = await rows(ground, "list")
    assert await rows(ground, "list", "--organization", ground.org(1)) == []
    [shown] = await rows(ground, "show", str(listed["id"]))
    assert shown == listed
    assert (shown["state"], shown["role"], shown["organization"]) == ("active", "owner", ground.org())
    [checked] = await rows(ground, "check", str(listed["id"]))
    assert checked["state"] == "active"
    table = await typed(ground, "show", str(listed["id"]))
    assert ["user", "uri", shown["user_uri"]] in [line.split() for line in table.stdout.splitlines()]
    [gone] = await rows(ground, "delete", str(listed["id"]))
    assert gone["id"] == listed["id"]
    assert await rows(ground, "list") == []
    for said in (first, second, table):
        assert token not in said.stdout + said.stderr
    assert token not in json.dumps([listed, shown, checked, gone])
    audited = await ground.rows("SELECT action, org, target FROM slotwire.audit WHERE result = 'done' ORDER BY id")
    assert [row["action"] for row in audited] == [f"connections.{verb}" for verb in ("add", "add", "check", "delete")]
    assert {(row["org"], row["target"]) for row in audited} == {(ground.org(), str(listed["id"]))}


async def test_a_check_of_a_revoked_one_fails(ground: Ground) -> None:
    """`check` shows what is now and exits with 1 when nothing can be done with it, saying what to do."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    await ground.revoke(token)
    ran = await typed(ground, "check", str(made.id))
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
async def test_mistakes_are_told(ground: Ground, arguments: tuple[str, ...], words: str) -> None:
    """A mistake is a few lines on standard error that name it, exit code 1, and never a stack trace or the token."""
    token = ground.token().get_secret_value()
    ran = await typed(ground, *arguments, stdin=token)
    assert (ran.code, ran.stdout) == (1, "")
    assert ran.stderr.startswith("slotwire: ")
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) <= 4
    assert token not in ran.stderr


async def test_a_token_is_never_an_argument(ground: Ground, tmp_path: Path) -> None:
    """There is no option that takes a token itself; a file that is too long or no token is refused unseen."""
    token = ground.token().get_secret_value()
    assert (await typed(ground, "add", "--token", token)).code == 2
    file = tmp_path / "token"
    for text, words in (
        (token.ljust(MAX_TOKEN_FILE_BYTES + 1), "too long"),
        (" \n", "empty"),
        ("two words", "no Calendly token"),
    ):
        file.write_text(text, encoding="ascii")
        ran = await typed(ground, "add", "--token-file", str(file))
        assert ran.code == 1
        assert words in ran.stderr
        assert token not in ran.stderr
    file.write_text(token.ljust(MAX_TOKEN_FILE_BYTES), encoding="ascii")
    assert (await typed(ground, "add", "--token-file", str(file))).code == 0


async def test_by_http(ground: Ground) -> None:
    """POST connects with 201, then 200; GET, check and DELETE say what is; no answer has the token."""
    token = ground.token()
    body = {"token": token.get_secret_value()}
    async with managing(ground.settings) as desk:
        operator, reader = await desk.key(Role.OPERATOR), await desk.key(Role.READER)
        path = f"/v1/organizations/{ground.org()}/connections"
        answers = [await desk.ask("POST", path, operator, json=body) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200]
        made = answers[1].json()
        assert answers[0].json()["id"] == made["id"]
        page = (await desk.ask("GET", path, reader)).json()
        assert page == {"items": [made], "next_cursor": None}
        one = f"{path}/{made['id']}"
        assert (await desk.ask("GET", one, reader)).json() == made
        await ground.revoke(token)
        checked = await desk.ask("POST", f"{one}/check", operator)
        assert (checked.status_code, checked.json()["state"]) == (200, "revoked")
        elsewhere = f"/v1/organizations/{ground.org(1)}/connections"
        for method, where in (("GET", f"{elsewhere}/{made['id']}"), ("DELETE", f"{elsewhere}/{made['id']}")):
            missing = await desk.ask(method, where, operator)
            assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        other = await desk.ask("POST", elsewhere, operator, json={"token": (await ground.issue()).get_secret_value()})
        assert (other.status_code, other.json()["code"]) == (422, "token_of_another_organization")
        refused = await desk.ask("POST", path, operator, json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "calendly_credential")
        gone = await desk.ask("DELETE", one, operator)
        assert (gone.status_code, gone.json()["id"]) == (200, made["id"])
        assert (await desk.ask("DELETE", one, operator)).status_code == 404
    said = "".join(answer.text for answer in (*answers, checked, other, refused, gone))
    assert token.get_secret_value() not in said


async def test_the_longest_token_by_http(ground: Ground) -> None:
    """The longest token is asked about at Calendly; one character more is refused before, unseen."""
    async with managing(ground.settings) as desk:
        key, path = await desk.key(), f"/v1/organizations/{ground.org()}/connections"
        longest = await desk.ask("POST", path, key, json={"token": "x" * MAX_TOKEN_LENGTH})
        # Calendly's answer, whatever it is: ours let it through.
        assert longest.json()["code"].startswith("calendly_")
        calls = len(await ground.calls())
        longer = await desk.ask("POST", path, key, json={"token": "x" * (MAX_TOKEN_LENGTH + 1)})
        assert (longer.status_code, longer.json()["code"]) == (400, "body_invalid")
        assert len(await ground.calls()) == calls
        assert "xxx" not in longest.text + longer.text


async def test_a_revoked_credential_reaches_kafka(
    ground: Ground, database: Database, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """The relay publishes the event on the topic of operations, keyed by the organization, like any other."""
    token = ground.token()
    made = (await ground.connections.add(token)).connection
    await ground.revoke(token)
    assert (await ground.connections.check(made.id)).state == "revoked"
    async with open_scene(database, kafka_bootstrap, topic_prefix) as scene, leading(scene.settings) as (relay, _):
        assert await drain(relay) == 1
        [record] = await committed(scene.settings, 1, OPERATIONS)
    assert record.topic == f"{topic_prefix}slotwire.operations"
    assert record.key == made.organization.encode()
    assert header(record, "ce_type") == ConnectionRevoked.type
    assert header(record, "ce_source") == f"/organizations/{made.org}"
    assert header(record, "ce_tenant") == f"customer-{made.org}"
    assert header(record, "traceparent") is None
    assert record.value is not None
    assert ConnectionRevoked.model_validate_json(record.value).connection_id == made.id
