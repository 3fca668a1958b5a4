"""What the simulator remembers: across a restart, across kill -9, and what it says to a state it cannot use."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.simulator.app import Options, simulator
from slotwire.ingest.simulator.database import NUMBER_BLOCK
from tests.support.fork_server import Forked, piped
from tests.support.plain_http import NO_TLS
from tests.support.simulated_calendly import INVITEE_EVENTS, KEY, receiving, simulated_calendly


async def test_a_restart_restores_everything(tmp_path: Path) -> None:
    """Subscription and key, a waiting retry, bookings, clock, faults, tokens and numbers are as they were."""
    options = Options(state_file=tmp_path / "calendly.db")
    async with receiving() as receiver:
        receiver.status = 503
        async with simulated_calendly(options) as before:
            ident = await before.subscribe(receiver.url)
            booked = await before.act("book")
            await before.advance(hours=1)
            await before.act("faults", retries_keep_signature=True)
            await before.act("tokens/state", token=before.running.world.tokens[1].value, state="revoked")
            subscription = await before.subscription(ident)
            event = (await before.http.get(booked["event"][24:])).json()
            assert subscription["retry_started_at"]
        receiver.status = 204
        async with simulated_calendly(options) as after:
            assert (await after.http.get("/simulator/clock")).json()["offset_seconds"] == 3600
            assert (await after.http.get("/simulator/faults")).json()["retries_keep_signature"] is True
            assert (await after.http.get(booked["event"][24:])).json() == event
            assert await after.subscription(ident) == subscription
            revoked = {"Authorization": f"Bearer {after.running.world.tokens[1].value}"}
            assert (await after.http.get("/users/me", headers=revoked)).status_code == 401
            await after.advance(hours=1)
            assert after.states() == ["acknowledged"]
            assert len({each.body for each in receiver.deliveries}) == 1
            assert receiver.deliveries[-1].headers["calendly-webhook-signature"].startswith("t=1795000000,")
            again = await after.act("book")
            assert [each["id"] for each in again["deliveries"]] == ["m2"]


async def test_the_seed_makes_the_same_tokens_without_a_file() -> None:
    """Nothing but the seed is needed to find organization and token again."""
    found = []
    for _ in range(2):
        async with simulated_calendly(Options(seed="again")) as calendly:
            found.append((calendly.running.organization, calendly.running.owner_token))
    assert found[0] == found[1]


@asynccontextmanager
async def _child(state: Path) -> AsyncIterator[tuple[Forked, httpx.AsyncClient, dict[str, str]]]:
    arguments = ("simulate", "serve", "--port", "0", "--state-file", str(state), "--json", "--first-retry", "0.05")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLOTWIRE_")}
    async with piped(*arguments, env=environment) as process:
        async with asyncio.timeout(60):
            ready = json.loads(await process.stdout.readline())
        head = {"Authorization": f"Bearer {ready['simulator_token']}"}
        async with httpx.AsyncClient(base_url=ready["simulator_url"], headers=head, verify=NO_TLS, timeout=120) as http:
            yield process, http, ready


async def test_a_message_is_stored_before_it_is_sent(tmp_path: Path) -> None:
    """Killed while its first delivery is on the wire, it knows the booking and what it still owes."""
    state = tmp_path / "calendly.db"
    async with receiving() as receiver:
        receiver.hold = asyncio.Event()
        async with _child(state) as (process, http, ready):
            body = {"url": receiver.url, "events": INVITEE_EVENTS, "organization": ready["organization"]}
            await http.post("/webhook_subscriptions", json={**body, "scope": "organization"})
            await http.post("/simulator/book", json={})
            await receiver.received(1)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    file = sqlite3.connect(state)
    counts = [file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("invitees", "messages")]
    file.close()
    assert counts == [1, 1]


async def test_kill_9_loses_no_delivery(tmp_path: Path) -> None:
    """Killed in the middle of a load, it restarts with every booking and delivers every pending message."""
    state = tmp_path / "calendly.db"
    async with receiving() as receiver:
        async with _child(state) as (process, http, ready):
            body = {"url": receiver.url, "events": INVITEE_EVENTS, "organization": ready["organization"]}
            made = await http.post("/webhook_subscriptions", json={**body, "scope": "organization", "signing_key": KEY})
            assert made.status_code == 201
            (await http.post("/simulator/load", json={"count": 5000, "wait": False})).raise_for_status()
            await receiver.received(300)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        with sqlite3.connect(state) as file:
            owed = file.execute("SELECT count(*) FROM messages WHERE state = 'pending'").fetchone()[0]
            bodies = {row[0] for row in file.execute("SELECT body FROM messages")}
        file.close()
        assert owed > 0
        async with _child(state) as (process, http, ready):
            (await http.get("/simulator/idle", params={"timeout_seconds": 100})).raise_for_status()
            ledger = (await http.get("/simulator/ledger")).json()
            assert ledger["states"] == {
                **ledger["states"],
                "pending": 0,
                "acknowledged": ledger["messages"],
            }
            assert {each.body for each in receiver.deliveries} == bodies
            booked = (await http.post("/simulator/book", json={"wait_seconds": 60})).json()
            assert int(booked["deliveries"][0]["id"][1:]) % NUMBER_BLOCK == 1
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_state_file_serves_one_simulator(tmp_path: Path) -> None:
    """A second simulator on the same file is refused, and the file is free again after the first."""
    options = Options(state_file=tmp_path / "calendly.db")
    async with simulated_calendly(options):
        with pytest.raises(SlotwireError, match="in use") as refused:
            async with simulator(options):
                pass
    assert refused.value.remedy == "Stop the other simulator."
    async with simulated_calendly(options) as again:
        assert again.states() == []


async def test_another_seed_needs_another_file(tmp_path: Path) -> None:
    """A state made with one seed is not mixed with the world of another."""
    path = tmp_path / "calendly.db"
    async with simulated_calendly(Options(state_file=path, seed="one")):
        pass
    with pytest.raises(SlotwireError, match="--seed one --organizations 1"):
        async with simulator(Options(state_file=path, seed="two")):
            pass


async def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    """A file that is no state is refused unchanged."""
    path = tmp_path / "notes.txt"
    content = "no database at all, but text that is long enough to be taken for one" * 20
    path.write_text(content)
    with pytest.raises(SlotwireError, match="cannot be used"):
        async with simulator(Options(state_file=path)):
            pass
    assert path.read_text() == content


async def test_an_empty_file_is_a_new_state(tmp_path: Path) -> None:
    """A file made by `mktemp` can be used."""
    path = tmp_path / "calendly.db"
    path.touch()
    async with simulated_calendly(Options(state_file=path)) as calendly:
        assert calendly.states() == []


async def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    """A file format this version does not know is named, with what to do."""
    path = tmp_path / "calendly.db"
    async with simulated_calendly(Options(state_file=path)):
        pass
    file = sqlite3.connect(path)
    file.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    file.commit()
    file.close()
    with pytest.raises(SlotwireError, match=r"another version .*format 99") as refused:
        async with simulator(Options(state_file=path)):
            pass
    assert "--state-file" in refused.value.remedy


async def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    """When the file cannot grow the action is refused with what to do."""
    async with receiving() as receiver, simulated_calendly(Options(state_file=tmp_path / "calendly.db")) as calendly:
        await calendly.subscribe(receiver.url)
        list(calendly.running.engine.ledger._database.rows("PRAGMA max_page_count = 1"))
        statuses = [await calendly.http.post("/simulator/book", json={}) for _ in range(200)]
        refused = next(each for each in statuses if each.status_code != 201)
        assert refused.status_code == 503
        assert "cannot be written" in refused.json()["message"]
        assert "Make room" in refused.json()["message"]


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A state file in a missing folder says which file and what to do."""
    with pytest.raises(SlotwireError, match=r"missing/calendly\.db"):
        async with simulator(Options(state_file=tmp_path / "missing" / "calendly.db")):
            pass


@pytest.mark.parametrize("port", [None, 70_000])
async def test_a_port_in_use_is_named(port: int | None) -> None:
    """A taken port and one that does not exist are errors in words, and the state file is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = port or taken.getsockname()[1]
        with pytest.raises(SlotwireError, match=f"cannot listen on 127.0.0.1:{wanted}") as refused:
            async with simulator(Options(port=wanted)):
                pass
    assert "--port" in refused.value.remedy
