"""The management API under schemathesis: whatever is sent, no 5xx and no answer outside its schema."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from slotwire.ingest.local.databases import Database
from slotwire.ingest.operate.admin_api import Limits
from slotwire.ingest.operate.roles import Role
from tests.support.populated_api import populated_api

CONFIG = Path(__file__).parents[1] / "schemathesis.toml"


async def fuzz(database: Database, folder: Path, role: Role, *options: str, bound: bool, seconds: float) -> None:
    """Run schemathesis against the API, with something behind its routes and a simulator in Calendly's place."""
    limits = Limits(refusals=1_000_000)  # what it sends is refused again and again, and is to reach the routes
    async with populated_api(database, "fuzz", limits) as populated:
        populated.api.actions.refusals.rows = 1_000_000
        key = await populated.api.key(role, populated.org if bound else None)
        code, told = await schemathesis(populated.api.url, key, folder, *options, seconds=seconds)
    assert code == 0, told


async def schemathesis(url: str, key: str, folder: Path, *options: str, seconds: float) -> tuple[int, str]:
    """Run it as a person would, with all of its checks; returns its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("--config-file", CONFIG),
        *("run", f"{url}/openapi.json", "--checks", "all", "--continue-on-failure", "--no-color"),
        *("--header", f"Authorization: Bearer {key}"),
        *options,
        cwd=folder,  # it leaves notes where it runs
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, told.decode()


@pytest.mark.parametrize(
    ("role", "bound", "phases", "examples"),
    [
        (Role.READER, True, "fuzzing", 1),
        (Role.OPERATOR, False, "fuzzing", 1),
        (Role.ADMIN, False, "examples,fuzzing,stateful", 2),
    ],
)
async def test_whatever_is_sent(
    role: Role, bound: bool, phases: str, examples: int, database: Database, tmp_path: Path
) -> None:
    """With a key of each role: no 5xx, no status, type, header or form of an answer that is not described."""
    options = ("--phases", phases, "--max-examples", str(examples), "--seed", "1")
    await fuzz(database, tmp_path, role, *options, bound=bound, seconds=240)


@pytest.mark.soak
@pytest.mark.parametrize("role", Role)
async def test_whatever_is_sent_for_long(role: Role, database: Database, tmp_path: Path) -> None:
    """The same for minutes, with each phase that schemathesis has, from a seed of its own; a failure prints it."""
    await fuzz(database, tmp_path, role, "--max-examples", "300", bound=role is Role.OPERATOR, seconds=900)
