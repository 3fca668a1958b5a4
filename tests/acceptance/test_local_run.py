"""`slotwire local` as a person or a program uses it: one ready line, whose fields all work, and a clean end.

The tests of one installation follow its life: started, used, its processes killed, stopped, started again,
killed, wiped.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from slotwire.ingest.local.children import start_time
from slotwire.ingest.local.kafka import answers
from slotwire.ingest.local.state import StateFolder
from slotwire.ingest.local.wiring import PORTS
from tests.support.author_howto import following
from tests.support.mcp_request import wire_request
from tools.documents import ROOT

READY_SECONDS = 480
"""The first start on a machine downloads Kafka."""
STOP_SECONDS = 5.0
_get = partial(httpx.get, timeout=90)  # the machine has other work
_post = partial(httpx.post, timeout=90)
FIELDS = {
    *("ready", "hook_url", "signing_key", "organization", "public_url", "admin_url", "admin_key", "health_url"),
    *("database_url", "kafka_bootstrap_servers"),
    *("simulator_url", "simulator_token", "mcp_url", "mcp_token", "state_dir"),
}
SECRETS = ("hook_url", "signing_key", "admin_key", "database_url", "simulator_token", "mcp_token")
PAYLOAD = Path(__file__).parents[1] / "payloads" / "invitee.created" / "all_fields.json"
QUICKSTART = ROOT / "docs" / "quickstart.md"
README = ROOT / "README.md"
DEFAULT_FOLDER = "~/.local/state/slotwire/local"
"""Where an ordinary user's installation is, as the quickstart names it."""


@dataclass(frozen=True)
class Running:
    """A running `slotwire local --json`.

    Attributes:
        process: the command.
        ready: its ready line, parsed.
        seconds: how long it took.
        errors: the file that takes its standard error.
    """

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    seconds: float
    errors: Path

    def children(self) -> dict[str, tuple[int, str]]:
        """Process id and birth of everything it started, by name."""
        found = json.loads((Path(self.ready["state_dir"]) / "children.json").read_text())
        return {name: (int(pid), str(born)) for name, (pid, born) in found.items()}

    def said(self) -> str:
        """Its standard error."""
        return self.errors.read_text()


def _slotwire(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLOTWIRE_")}
    command = [sys.executable, "-m", "slotwire.ingest.cli", *map(str, arguments)]
    return subprocess.Popen(command, text=True, env=environment, **more)


def _start(errors: Path, *options: str | Path) -> Running:
    begun = time.monotonic()
    with errors.open("a") as file:
        process = _slotwire("local", "--json", *options, stdout=subprocess.PIPE, stderr=file)
    watchdog = threading.Timer(READY_SECONDS, process.kill)
    watchdog.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    watchdog.cancel()
    if not line:
        process.communicate()
    assert line, errors.read_text()
    return Running(process, json.loads(line), time.monotonic() - begun, errors)


def _until(happened: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _section(title: str) -> tuple[str, str]:
    """Return the shell commands of a section of the quickstart, and the output that it shows."""
    section = QUICKSTART.read_text(encoding="utf-8").partition(title)[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    commands, shown = ["".join(body for kind, body in blocks if kind == wanted) for wanted in ("sh", "")]
    return commands, shown


def _follow(running: Running, title: str) -> subprocess.CompletedProcess[str]:
    """Run the commands of a section of the quickstart on this installation's folder."""
    return _run(running, _section(title)[0])


def _run(running: Running, commands: str) -> subprocess.CompletedProcess[str]:
    """Run shell commands that name the folder of an ordinary user's installation, on this one's."""
    assert DEFAULT_FOLDER in commands
    script = commands.replace(DEFAULT_FOLDER, running.ready["state_dir"])
    return subprocess.run(["/bin/bash", "-euc", script], text=True, capture_output=True, check=True, timeout=300)


def _shape(output: str) -> list[str]:
    """Return the lines of an output without what differs from run to run: identifiers, numbers, width."""
    plain = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", output)
    return [" ".join(re.sub(r"[0-9]+", "N", line).split()) for line in plain.splitlines()]


def _end(running: Running) -> None:
    running.process.kill()
    running.process.wait()
    if running.process.stdout is not None:
        running.process.stdout.close()


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for both lives of the installation; as root it is closed to the account of Postgres.

    Its ports are picked beforehand: the well-known ones may belong to another installation on this machine.
    """
    folder = tmp_path_factory.mktemp("local") / "state"
    with StateFolder.claim(folder) as state:
        for name in PORTS:
            state.port(name)
    return folder


@pytest.fixture(scope="module")
def first(state_dir: Path) -> Iterator[Running]:
    """The first start in a new folder."""
    running = _start(state_dir.with_suffix(".first"), "--state-dir", state_dir)
    yield running
    _end(running)


@pytest.fixture(scope="module")
def second(state_dir: Path) -> Iterator[Running]:
    """A later start in the same folder, without the demo."""
    running = _start(state_dir.with_suffix(".second"), "--state-dir", state_dir, "--no-demo")
    yield running
    _end(running)


def test_the_ready_line_has_the_fixed_fields(first: Running) -> None:
    """Other programs build on these names: all are there, none is empty, none is more."""
    assert first.ready.keys() == FIELDS
    assert all(first.ready.values())


def test_a_delivery_signed_by_hand_comes_out_of_the_management_api(first: Running) -> None:
    """`hook_url`, `signing_key`, `admin_url` and `admin_key` are real: what goes in signed is in the log."""
    body, now = PAYLOAD.read_bytes(), int(time.time())
    digest = hmac.new(first.ready["signing_key"].encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "Calendly-Webhook-Signature": f"t={now},v1={digest}"}
    answer = _post(first.ready["hook_url"], content=body, headers=headers)
    assert answer.is_success, answer.text
    assert first.ready["hook_url"].startswith(first.ready["public_url"])
    invitee = json.loads(body)["payload"]["uri"]
    key = {"Authorization": f"Bearer {first.ready['admin_key']}"}
    waiting = f"{first.ready['admin_url']}/v1/deliveries?outcome=accepted"
    _until(lambda: not _get(waiting, headers=key).json()["items"], "accepted and not written")
    events = _get(f"{first.ready['admin_url']}/v1/events", params={"subject": invitee}, headers=key)
    assert events.is_success, events.text
    assert [item["type"] for item in events.json()["items"]] == ["com.calendly.invitee.created.v1"]


def test_a_wrong_signature_is_refused(first: Running) -> None:
    """The hook alone opens nothing."""
    signed = {"Calendly-Webhook-Signature": f"t={int(time.time())},v1=00"}
    answer = _post(first.ready["hook_url"], content=b"{}", headers=signed)
    assert answer.status_code == 401


def test_health_and_simulator_answer(first: Running) -> None:
    """`health_url`, `simulator_url` and `simulator_token` are real, and the token is the organization's."""
    assert _get(f"{first.ready['health_url']}/readyz").is_success
    token = {"Authorization": f"Bearer {first.ready['simulator_token']}"}
    me = _get(f"{first.ready['simulator_url']}/users/me", headers=token)
    assert me.json()["resource"]["current_organization"] == first.ready["organization"]


def test_the_mcp_server_answers(first: Running) -> None:
    """With `mcp_token`, a tool at `mcp_url` reads through `control` whom it acts for."""
    headers, body = wire_request(first.ready["mcp_token"], "tools/call", {"name": "get_current_user", "arguments": {}})
    answer = _post(first.ready["mcp_url"], json=body, headers=headers).json()
    assert first.ready["organization"] in answer["result"]["content"][0]["text"]


async def test_database_and_kafka_answer(first: Running) -> None:
    """`database_url` opens the migrated database, and a broker answers at `kafka_bootstrap_servers`."""
    connection = await asyncpg.connect(first.ready["database_url"])
    try:
        assert await connection.fetchval("SELECT count(*) FROM slotwire.events") >= 1
    finally:
        await connection.close()
    host, _, port = first.ready["kafka_bootstrap_servers"].partition(":")
    assert host == "127.0.0.1"
    assert await answers(int(port))


def test_the_demo_agent_prints_what_happens(first: Running) -> None:
    """Meetings happen by themselves and reach the demo agent through Postgres and Kafka."""
    _until(lambda: "demo-agent │" in first.said(), "no line of the demo agent")


def test_the_readme_books_a_meeting(first: Running) -> None:
    """The README's `simulate book` prints what the README shows, and the demo agent prints that booking."""
    block = next(body for body in README.read_text(encoding="utf-8").split("```") if "simulate book" in body)
    commands = "".join(line[2:] for line in block.splitlines(keepends=True) if line.startswith("$ "))
    shown = "".join(line for line in block.splitlines(keepends=True)[1:] if not line.startswith("$ "))
    program = str(Path(sys.executable).with_name("slotwire"))
    done = _run(first, commands.replace(".venv/bin/slotwire", program))
    assert _shape(done.stdout) == _shape(shown)
    invitee = done.stdout.split("/invitees/")[1].split()[0]
    _until(lambda: f"{invitee[:8]}  booked" in first.said(), f"the demo agent did not print {invitee}")


def test_the_quickstart_signs_a_delivery_by_hand(first: Running) -> None:
    """Section 3 of the quickstart, as written, is answered 200, and the demo agent prints the line that it shows."""
    done = _follow(first, "## 3.")
    assert "HTTP/1.1 200 OK" in done.stdout, done
    _, shown = _section("## 3.")
    line = " ".join(shown.split()[:-2])
    _until(lambda: line in " ".join(first.said().split()), f"the demo agent did not print {line}")


def test_a_newcomer_gets_from_nothing_to_a_tested_agent(first: Running, tmp_path: Path) -> None:
    """Each command of the how-to runs as written; a change, a mistake and its repair show in the agent's shell."""
    with following(Path(first.ready["state_dir"]), tmp_path) as newcomer:
        newcomer.follow(1)
        with newcomer.follow_in_the_background(2) as dev:
            dev.until("applied 0001_meetings to agent_crm")
            newcomer.follow(3)
            dev.until(r"invitee\.created  [0-9a-f-]{36}  webhook  done  [0-9.]+ ms")
            dev.until(r"invitee\.canceled  [0-9a-f-]{36}  webhook  done")
            newcomer.change("crm/agent.py", "meetings (organization", "meeting (organization")
            dev.until("crm/agent.py changed: starting again")
            newcomer.run("slotwire simulate book")
            dev.until('UndefinedTableError: relation "agent_crm.meeting" does not exist')
            dev.until(r"crm/agent\.py:\d+ in remember: await connection\.execute\(")
            newcomer.change("crm/agent.py", "meeting (organization", "meetings (organization")
            dev.until(r"invitee\.created  [0-9a-f-]{36}  webhook  done")
        tried = newcomer.follow(4)
        assert "rolled back" in tried
        assert "answered: done" in tried
        assert " 1 passed" in newcomer.follow(5)


def test_secrets_are_printed_in_the_ready_line_only(first: Running) -> None:
    """Neither standard error nor any log holds a secret, and files with secrets are private."""
    folder = Path(first.ready["state_dir"])
    logs = "".join(log.read_text() for log in (folder / "logs").iterdir())
    for name in SECRETS:
        assert first.ready[name] not in first.said() + logs, name
    assert json.loads((folder / "ready.json").read_text()) == first.ready
    for file in ("ready.json", "secrets.json", "slotwire.env", "agents.env", "logs"):
        assert (folder / file).stat().st_mode & 0o077 == 0, file
    assert "SLOTWIRE_HEALTH__PORT=0" in (folder / "slotwire.env").read_text(), "agents run by hand beside serve"


def test_a_second_one_on_the_same_folder_is_refused(first: Running, state_dir: Path) -> None:
    """It says which process holds the folder, and does not disturb it."""
    other = _slotwire("local", "--state-dir", state_dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = other.communicate(timeout=300)
    assert (other.returncode, out) == (1, "")
    assert f"is in use by the process {first.process.pid}" in err
    assert "Traceback" not in err
    assert _get(f"{first.ready['health_url']}/readyz").is_success


@pytest.mark.parametrize("names", ["simulator control serve demo-agent", "Kafka Postgres"])
def test_processes_that_die_are_restarted_and_reported(first: Running, names: str) -> None:
    """`kill -9` of any process or server is reported, and it is restarted; several may die at once."""
    before, dying = first.children(), names.split()
    for name in dying:
        os.kill(before[name][0], signal.SIGKILL)
    for name in dying:
        _until(lambda: f"{name} runs again" in first.said(), f"{name} did not come back")  # noqa: B023 - called here
        assert f"{name} was killed by SIGKILL; restarting it" in first.said()
        assert first.children()[name][0] != before[name][0]


def test_the_quickstart_kills_one_process_of_this_installation(first: Running) -> None:
    """Section 5 of the quickstart, as written, kills the relay of this folder alone; it is restarted and reported."""
    before = first.children()
    _follow(first, "## 5.")
    _until(lambda: "relay runs again" in first.said(), "the relay did not come back")
    assert "relay was killed by SIGKILL; restarting it" in first.said()
    after = first.children()
    assert [name for name in before if after[name] != before[name]] == ["relay"]


def test_it_stops_in_time_and_leaves_no_process(first: Running) -> None:
    """SIGTERM ends everything in time, and standard output had the ready line and nothing else."""
    _until(lambda: _get(f"{first.ready['health_url']}/readyz").is_success, "serve is not ready again")
    children = first.children()
    assert children.keys() >= {"Postgres", "Kafka", "simulator", "serve", "control", "mcp", "relay", "demo-agent"}
    begun = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    rest, _ = first.process.communicate(timeout=120)
    assert time.monotonic() - begun < 4 * STOP_SECONDS  # beside other tests; by itself a quarter of it
    assert (first.process.returncode, rest) == (0, "")
    assert [name for name, (pid, born) in children.items() if start_time(pid) == born] == []
    assert not (Path(first.ready["state_dir"]) / "ready.json").exists()


def test_a_later_start_finds_everything_again(first: Running, second: Running) -> None:
    """Addresses, keys and the subscription are the same; nothing is created twice."""
    assert second.ready == {**first.ready, "mcp_token": second.ready["mcp_token"]}
    key = {"Authorization": f"Bearer {second.ready['admin_key']}"}
    org = second.ready["organization"].rpartition("/")[2]
    listed = _get(f"{second.ready['admin_url']}/v1/organizations/{org}/subscriptions", headers=key)
    assert [item["state"] for item in listed.json()["items"]] == ["active"]


def test_every_process_follows_the_simulators_clock(second: Running) -> None:
    """A day later at the simulator, what it signs is accepted, and is in the log at that time."""
    key = {"Authorization": f"Bearer {second.ready['admin_key']}"}
    simulator = second.ready["simulator_url"]
    moved = _post(f"{simulator}/simulator/clock", json={"advance_seconds": 86_400}).json()
    assert moved["followed"] is True
    booked = _post(f"{simulator}/simulator/book", json={"wait_seconds": 60}).json()
    # On a busy machine an answer may come too late.
    assert {n["status"] for each in booked["deliveries"] for n in each["attempts"]} - {None, 503} == {200}
    asked = {"subject": booked["invitees"][0]}

    def events() -> Any:
        return _get(f"{second.ready['admin_url']}/v1/events", params=asked, headers=key).json()["items"]

    _until(lambda: bool(events()), "the booking did not come into the log")
    assert events()[0]["recorded_at"] > moved["now"]


def test_after_kill_9_of_the_command_nothing_remains(second: Running) -> None:
    """Every child ends with its parent, however the parent ends."""
    children = second.children()
    second.process.kill()
    second.process.communicate()
    _until(lambda: not any(start_time(pid) == born for pid, born in children.values()), "a child remains")


def test_wiping_says_what_it_deletes(second: Running, state_dir: Path) -> None:
    """After `--wipe` nothing of the installation is left, and each part of it was named."""
    done = _slotwire("local", "--wipe", "--state-dir", state_dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate(timeout=300)
    assert (done.returncode, err) == (0, "")
    for part in ("postgres", "kafka", "secrets.json"):
        assert part in out
    assert all(not Path(line.removeprefix("deleted ")).exists() for line in out.splitlines())
    assert not state_dir.exists()


def test_an_ephemeral_one_leaves_nothing(tmp_path: Path) -> None:
    """`--ephemeral` works like any other, and after Ctrl-C its folder is gone."""
    running = _start(tmp_path / "err", "--ephemeral", "--no-demo")
    try:
        folder = Path(running.ready["state_dir"])
        assert _get(f"{running.ready['health_url']}/readyz").is_success
        assert (folder / "secrets.json").exists()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=300) == 0
    finally:
        _end(running)
    assert not folder.exists()
    assert "booked" not in running.said(), "nobody makes meetings"
