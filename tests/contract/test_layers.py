"""The arrows between the parts, held by import-linter; each contract is shown to bite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools.sources import ROOT, copy_packages

# One import for each contract that it must refuse: who imports, what is written, and whom that reaches.
PLANTED = {
    "parts": ("ingest.receive.accept", "from slotwire.handlers import registry", "handlers.registry"),
    "schemas-are-pure": ("schemas.topics", "import aiokafka", "aiokafka"),
    "handlers-stand-on-foundation": ("handlers.context", "import slotwire.ingest.log.writer", "ingest.log.writer"),
    "stages": ("ingest.keys.hooks", "import slotwire.ingest.receive.verify", "ingest.receive.verify"),
    "receive": ("ingest.receive.verify", "import slotwire.ingest.receive.accept", "ingest.receive.accept"),
    "log": ("ingest.log.normalize", "import slotwire.ingest.log.join", "ingest.log.join"),
    "relay": ("ingest.relay.cursor", "import slotwire.ingest.relay.shard", "ingest.relay.shard"),
    "relay-reads-the-log-only": (
        "ingest.relay.log_reader",
        "import slotwire.ingest.receive.accept",
        "ingest.receive.accept",
    ),
    "mcp-holds-no-key": ("ingest.mcp.principal", "import slotwire.ingest.keys.hooks", "ingest.keys.hooks"),
    "mcp-events": (
        "ingest.mcp.events.cursors",
        "import slotwire.ingest.mcp.events.feed",
        "ingest.mcp.events.feed",
    ),
    "one-writer": ("ingest.control.backfill", "import slotwire.ingest.log.normalize", "ingest.log.normalize"),
    "pure-core": ("ingest.log.join", "import asyncpg", "asyncpg"),
    "lanes": ("handlers.dispatch.lanes", "import slotwire.handlers.consume.member", "handlers.consume.member"),
    "handlers-author": (
        "handlers.author.tables",
        "import slotwire.handlers.author.past_events",
        "handlers.author.past_events",
    ),
    "handlers-consume": (
        "handlers.consume.watch",
        "import slotwire.handlers.consume.placement",
        "handlers.consume.placement",
    ),
    "handlers-dispatch": (
        "handlers.dispatch.lanes",
        "import slotwire.handlers.dispatch.handle",
        "handlers.dispatch.handle",
    ),
    "handlers-long-work": (
        "handlers.long_work.versions",
        "import slotwire.handlers.long_work.steps",
        "handlers.long_work.steps",
    ),
    "handlers-schedule": (
        "handlers.schedule.due_firings",
        "import slotwire.handlers.schedule.fire",
        "handlers.schedule.fire",
    ),
    "handlers-settle": ("handlers.settle.ledger", "import slotwire.handlers.settle.inbox", "handlers.settle.inbox"),
    "verbs-know-no-http": (
        "ingest.operate.actions.keys",
        "import slotwire.ingest.operate.routes.keys",
        "ingest.operate.routes.keys",
    ),
    "doors-to-commands": ("ingest.operate.doctor", "import typer", "typer"),
    "doors-to-http": ("ingest.receive.accept", "from aiohttp import web", "aiohttp"),
    "doors-to-kafka": ("ingest.log.writer", "from aiokafka import AIOKafkaProducer", "aiokafka"),
    "one-door-to-calendly": ("ingest.control.subscriptions", "import httpx", "httpx"),
    "doors-to-mcp": ("ingest.operate.mcp_agents", "import jwt", "jwt"),
    "one-vault": ("ingest.keys.signing_keys", "from cryptography.hazmat.primitives import hmac", "cryptography"),
    "one-door-to-mail": ("handlers.agents.nightly_digest", "import aiosmtplib", "aiosmtplib"),
    "one-list-of-metrics": ("ingest.log.writer", "from prometheus_client import Counter", "prometheus_client"),
    "one-door-to-traces": ("handlers.dispatch.attempt", "from opentelemetry import trace", "opentelemetry"),
    "simulator-is-apart": (
        "ingest.simulator.signature",
        "import slotwire.ingest.receive.verify",
        "ingest.receive.verify",
    ),
    "not-in-production": ("ingest.keys.vault", "from slotwire.ingest.local import state", "ingest.local.state"),
    "composition-roots": (
        "ingest.local.stack",
        "from slotwire.ingest.receive.process import serve",
        "ingest.receive.process",
    ),
}
CONTRACTS: dict[str, str] = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
}


def lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a folder's pyproject.toml against the packages in that folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache", *options]
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_arrows_point_one_way() -> None:
    """Every import contract is kept by the code as it is."""
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_contract_is_tried() -> None:
    """No contract stands in pyproject.toml without a planted import that shows that it bites."""
    assert set(CONTRACTS) == set(PLANTED)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each contract, by its name, when all the imports are planted in one copy."""
    folder = tmp_path_factory.mktemp("planted")
    copy_packages(folder)
    for importer, planted, _ in PLANTED.values():
        with (folder / importer.replace(".", "/")).with_suffix(".py").open("a", encoding="utf-8") as module:
            module.write(f"\n{planted}\n")
    checked = lint_imports(folder)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    _, _, report = checked.stdout.partition("Broken contracts\n")
    parts = re.split(r"\n\n([^\n]+(?:\n[^\n]+)?)\n-{3,}\n", report)
    return {" ".join(name.split()): " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("contract", PLANTED)
def test_a_turned_arrow_is_refused(contract: str, broken: dict[str, str]) -> None:
    """One forbidden import breaks the contract that is about it, and is named."""
    importer, _, imported = PLANTED[contract]
    reached = imported if "." not in imported else f"slotwire.{imported}"
    assert f"slotwire.{importer} -> {reached} (" in broken[CONTRACTS[contract]]


@pytest.mark.parametrize(
    ("contract", "package"),
    [
        ("parts", "src/slotwire"),
        ("stages", "ingest"),
        ("receive", "ingest/receive"),
        ("log", "ingest/log"),
        ("relay", "ingest/relay"),
        ("mcp-events", "ingest/mcp/events"),
        ("lanes", "handlers"),
        ("handlers-dispatch", "handlers/dispatch"),
    ],
)
def test_a_new_file_takes_its_place(contract: str, package: str, tmp_path: Path) -> None:
    """A file that no layer names breaks the order it would stand in, even when it imports nothing."""
    copy_packages(tmp_path)
    (tmp_path / package / "somewhere.py").write_text("", encoding="utf-8")
    checked = lint_imports(tmp_path, "--contract", contract)
    assert checked.returncode == 1
    assert "somewhere" in checked.stdout
