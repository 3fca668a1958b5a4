"""A client that others generated from Calendly's own OpenAPI document runs against the simulator without a complaint.

It pins old packages, so it has an environment of its own, outside ours: `others_client.txt` says which.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from slotwire.ingest.simulator.app import Options, simulator
from slotwire.ingest.simulator.drafts import BookingDetails
from tests.support.simulated_calendly import AMPLE
from tools.sources import ROOT

pytestmark = pytest.mark.drills

HERE = ROOT / "tests/drills"


def environment_with_client(folder: Path) -> Path:
    """Make an environment with the client; return its Python."""
    uv = str(Path(sys.executable).parent / "uv")
    python = folder / "bin/python"
    listed = str(HERE / "others_client.txt")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True, timeout=300)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", listed], check=True, timeout=300
    )
    return python


def called(python: Path, values: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Let the client make its calls."""
    command = [str(python), str(HERE / "others_client.py"), *values]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


async def test_each_call_of_a_generated_client_is_answered(tmp_path: Path) -> None:
    """Every call that the client has is answered with success, and what it gets has the types that it expects."""
    python = await asyncio.to_thread(environment_with_client, tmp_path / "client")
    async with simulator(Options(seed="others", rate_limit=AMPLE)) as running:
        org = next(iter(running.world.organizations))
        running.engine.changes.organization(org, "enterprise", None)
        owner = running.world.members(org)[0]
        offer = next(each.id for each in running.world.offers(org) if each.owner == owner.id)
        booked = running.engine.book(BookingDetails(event_type=offer))
        submitted = running.engine.submit_form().submission
        assert booked.event is not None
        assert submitted is not None
        ids = (booked.event.id, booked.invitees[0].id, submitted.form, submitted.id)
        values = (running.url, running.owner_token, running.organization, *ids)
        ran = await asyncio.to_thread(called, python, values)
    assert ran.returncode == 0, ran.stderr[-2_000:]
    told = json.loads(ran.stdout)
    assert told["left"] == [], "each of its calls was made"
    assert len(told["ended"]) > 30
    assert {name: status for name, status in told["ended"].items() if status >= 300} == {}
