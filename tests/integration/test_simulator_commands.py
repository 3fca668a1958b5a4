"""`slotwire simulate …` against a running simulator, as somebody types it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from slotwire.ingest.cli.simulate import app
from slotwire.ingest.control.token_claims import read_claims
from slotwire.ingest.errors import SlotwireError
from tests.support.simulated_calendly import Receiver, SimulatedCalendly, receiving, simulated_calendly

Type: TypeAlias = Callable[..., Awaitable[Result]]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that acknowledges everything."""
    async with receiving() as found:
        yield found


@pytest.fixture
async def calendly(receiver: Receiver) -> AsyncIterator[SimulatedCalendly]:
    """A simulator subscribed to the receiver."""
    async with simulated_calendly() as found:
        await found.subscribe(receiver.url)
        yield found


@pytest.fixture
def typed(calendly: SimulatedCalendly) -> Type:
    """Run a command in a thread, so that the simulator of this loop can answer it."""

    async def run(*arguments: str, stdin: str | None = None) -> Result:
        line = [*arguments, "--simulator-url", calendly.running.url]
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, line, input=stdin))

    return run


async def test_book_move_mark_and_cancel(typed: Type, receiver: Receiver) -> None:
    """Each action prints what it touched and how its deliveries ended; without a name it is the newest booking."""
    await typed("book", "--name", "Earlier Sample")
    for arguments, events in (
        (("book", "--name", "Robin Sample", "--location", "zoom"), ["invitee.created"]),
        (("reschedule", "--order", "canceled-first"), ["invitee.canceled", "invitee.created"]),
        (("no-show",), ["invitee_no_show.created"]),
        (("clear-no-show", "--absent"), ["invitee_no_show.deleted"]),
        (("cancel", "--by", "host", "--reason", "ill"), ["invitee.canceled"]),
    ):
        receiver.deliveries.clear()
        done = await typed(*arguments)
        assert done.exit_code == 0, done.output
        assert [each.event for each in receiver.deliveries] == events
        assert {each.parsed["payload"]["name"] for each in receiver.deliveries} == {"Robin Sample"}
        assert all(event in done.output for event in events)
        assert done.output.count("acknowledged  204 in") == len(events)
    assert receiver.deliveries[0].parsed["payload"]["cancellation"]["canceler_type"] == "host"


async def test_json_is_one_object_per_line(typed: Type) -> None:
    """With `--json` every line of the standard output parses."""
    booked = json.loads((await typed("book", "--places", "2", "--json")).stdout)
    assert len(booked["invitees"]) == 2
    listed = [json.loads(line) for line in (await typed("deliveries", "--json")).stdout.splitlines()]
    assert [each["id"] for each in listed] == ["m1", "m2"]
    world = json.loads((await typed("world", "--json")).stdout)
    assert world["users"][0]["role"] == "owner"
    assert json.loads((await typed("clock", "--json")).stdout)["offset_seconds"] == 0
    assert json.loads((await typed("faults", "--drop-rate", "0.5", "--json")).stdout)["drop_rate"] == 0.5


async def test_an_action_without_a_subscription_says_so(typed: Type) -> None:
    """An event without subscribers says that nothing was sent."""
    done = await typed("routing-form")
    assert done.exit_code == 0
    assert "there is no subscription to this event" in done.stdout


async def test_load_ends_with_1_when_something_is_missing(typed: Type, receiver: Receiver) -> None:
    """The exit status tells a script whether all was acknowledged."""
    good = await typed("load", "20", "--mix", "kept=1", "--json")
    assert (good.exit_code, json.loads(good.stdout)["acknowledged"]) == (0, 20)
    receiver.status = 500
    bad = await typed("load", "5", "--timeout", "0.2")
    assert bad.exit_code == 1
    assert "0 of" in bad.stdout
    assert "pending" in bad.stdout


async def test_story_prints_each_step(typed: Type, calendly: SimulatedCalendly) -> None:
    """A bounded story prints its steps once each and ends."""
    done = await typed("story", "--count", "3", "--interval", "0")
    assert done.exit_code == 0, done.output
    report = (await calendly.http.get("/simulator/jobs/j1")).json()
    assert done.stdout.splitlines() == report["lines"]
    assert report["bookings"] == 3


async def test_send_reads_a_file_or_the_standard_input(
    typed: Type, calendly: SimulatedCalendly, receiver: Receiver, tmp_path: Path
) -> None:
    """The body comes from a file or from `-`, and the answer's status is printed."""
    ident = calendly.running.engine.ledger.subscriptions()[0].id
    (tmp_path / "body.json").write_text('{"from": "a file"}')
    assert (await typed("send", str(tmp_path / "body.json"), "--subscription", ident)).stdout.startswith("204 in ")
    assert (await typed("send", "-", "--subscription", ident, stdin="piped")).exit_code == 0
    assert [each.body for each in receiver.deliveries] == [b'{"from": "a file"}', b"piped"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("2d", 172_800)])
async def test_clock_takes_durations(typed: Type, text: str, seconds: int) -> None:
    """Seconds alone, or with a unit; further than a signature may be ahead, it says what follows."""
    done = await typed("clock", "--advance", text)
    assert f"({seconds} s ahead)" in done.stdout
    assert ("from_future" in done.stderr) == (seconds > 300)


@pytest.mark.parametrize(
    "arguments", [("clock", "--advance", "soon"), ("load", "5", "--mix", "kept"), ("load", "5", "--mix", "kept=x")]
)
async def test_unreadable_options_are_usage_errors(typed: Type, arguments: tuple[str, ...]) -> None:
    """What cannot be read ends with 2 and an example of how to write it."""
    done = await typed(*arguments)
    assert done.exit_code == 2
    assert "write" in done.output


@pytest.mark.parametrize("url", ["https://api.calendly.com", "http://192.0.2.1:8090", "nonsense"])
def test_the_real_calendly_is_never_called(url: str) -> None:
    """An address that is not loopback is refused before any connection is made."""
    done = CliRunner().invoke(app, ["book", "--simulator-url", url])
    assert isinstance(done.exception, SlotwireError)
    assert "runs on this machine only" in done.exception.message
    assert "simulate serve" in done.exception.remedy


def test_without_a_url_the_settings_name_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLOTWIRE_CALENDLY__API_URL is the default; where nobody listens, that is said with what to do."""
    monkeypatch.setenv("SLOTWIRE_CALENDLY__API_URL", "http://127.0.0.1:9")
    done = CliRunner().invoke(app, ["clock"])
    assert isinstance(done.exception, SlotwireError)
    assert "no simulator answers at http://127.0.0.1:9" in done.exception.message


async def test_a_server_that_is_not_a_simulator_is_reported(receiver: Receiver) -> None:
    """Something else that listens there is named as such."""
    done = await asyncio.to_thread(lambda: CliRunner().invoke(app, ["clock", "--simulator-url", receiver.url]))
    assert isinstance(done.exception, SlotwireError)
    assert "is not a simulator" in done.exception.message


@pytest.mark.parametrize("option", [("--concurrency", "0"), ("--first-retry", "0"), ("--organizations", "0")])
def test_serve_refuses_impossible_options(option: tuple[str, str]) -> None:
    """Impossible options end before anything listens."""
    done = CliRunner().invoke(app, ["serve", "--port", "0", *option])
    assert isinstance(done.exception, SlotwireError)
    assert done.exception.remedy


async def test_a_token_is_made_revoked_and_restored(typed: Type, calendly: SimulatedCalendly, tmp_path: Path) -> None:
    """`token` prints a token with the scopes asked for and nothing else; `token-state` changes what it is worth."""
    made = await typed("token", "--scope", "users:read", "--scope", "webhooks:write", "--expires-in", "1h")
    assert made.exit_code == 0, made.output
    file = tmp_path / "token"
    file.write_text(made.output)
    claims = read_claims(SecretStr(made.output.strip()))
    assert claims.scopes == ("users:read", "webhooks:write")
    assert claims.expires_at is not None
    head = {"Authorization": f"Bearer {made.output.strip()}"}
    for state, status in (("revoked", 401), ("valid", 200)):
        done = await typed("token-state", state, "--token-file", str(file))
        assert state in done.output
        assert made.output.strip() not in done.output
        assert (await calendly.http.get("/users/me", headers=head)).status_code == status


async def test_a_token_belongs_to_the_named_user(typed: Type, calendly: SimulatedCalendly) -> None:
    """Without a name it is the first owner's; a user who is not of the organization named is not found."""
    world = calendly.running.world
    owner, *_, plain = world.members(next(iter(world.organizations)))
    for arguments, user in (((), owner), (("--user", plain.id), plain)):
        made = await typed("token", *arguments, "--json")
        assert json.loads(made.output)["user"].endswith(f"/{user.id}")
    wrong = await typed("token", "--user", plain.id, "--organization", "NOWHERE")
    assert isinstance(wrong.exception, SlotwireError)


async def test_roles_and_plans_are_changed(typed: Type, calendly: SimulatedCalendly) -> None:
    """`user` and `plan` say what is so now, and the simulator goes by it."""
    world = calendly.running.world
    organization = next(iter(world.organizations))
    member = world.members(organization)[1]
    done = await typed("user", member.id, "--role", "user")
    assert f"is user of https://api.calendly.com/organizations/{organization}" in done.output
    assert world.users[member.id].role == "user"
    done = await typed("plan", organization, "--plan", "free", "--no-webhooks")
    assert "has the plan free, without webhooks" in done.output
    assert (world.organizations[organization].pays, world.organizations[organization].webhooks) == (False, False)


async def test_calls_are_listed_and_foreign_ones_exit_with_1(typed: Type, calendly: SimulatedCalendly) -> None:
    """`calls --foreign` ends with 0 while there are none, and with 1 and the call once there is one."""
    await calendly.http.get("/users/me")
    clean = await typed("calls", "--foreign")
    assert (clean.exit_code, "0 of them foreign" in clean.output) == (0, True)
    await calendly.http.get("/organizations/ANOTHER")
    shown = await typed("calls")
    assert (shown.exit_code, shown.output.count("GET")) == (0, 2)
    broken = await typed("calls", "--foreign")
    assert broken.exit_code == 1
    assert "/organizations/ANOTHER" in broken.output
    assert "FOREIGN" in broken.output
    assert calendly.running.owner_token not in shown.output
