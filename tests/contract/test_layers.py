"""The arrows between the parts, held by import-linter; each contract is shown to bite."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.sources import ROOT, copy_packages

# One import for each contract that it must refuse: who imports, what is written, and whom that reaches.
PLANTED = {
    "contract-is-pure": ("schemas.topics", "import ingest.errors", "ingest.errors"),
    "ingest-knows-no-handlers": ("ingest.pipeline", "from handlers import registry", "handlers.registry"),
    "handlers-stand-on-foundation": ("handlers.context", "import ingest.store", "ingest.store"),
    "stages": ("ingest.verify", "import ingest.normalize", "ingest.normalize"),
    "relay-reads-the-log-only": ("ingest.relay_log", "from ingest import store", "ingest.store"),
    "pure-core": ("ingest.join", "import asyncpg", "asyncpg"),
    "lanes": ("handlers.lanes", "import handlers.consume", "handlers.consume"),
    "verbs-know-no-http": ("ingest.operate.actions", "from aiohttp import web", "aiohttp"),
    "one-door-to-calendly": ("ingest.control.subscriptions", "import httpx", "httpx"),
    "doors-to-kafka": ("ingest.store", "from aiokafka import AIOKafkaProducer", "aiokafka"),
    "doors-to-http": ("ingest.pipeline", "from aiohttp import web", "aiohttp"),
    "one-vault": ("ingest.control.signing_keys", "from cryptography.hazmat.primitives import hmac", "cryptography"),
    "one-list-of-metrics": ("ingest.store", "from prometheus_client import Counter", "prometheus_client"),
    "simulator-is-apart": ("ingest.simulator.signature", "import ingest.verify", "ingest.verify"),
    "simulator-is-not-in-production": ("ingest.processes", "import ingest.simulator.world", "ingest.simulator.world"),
    "local-is-not-in-production": ("ingest.control.vault", "from ingest.local import state", "ingest.local.state"),
    "one-composition-root": ("ingest.local.stack", "from ingest.processes import serve", "ingest.processes"),
}
CONTRACTS: dict[str, str] = {
    contract["id"]: contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
}


def lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a folder's pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


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
    return {" ".join(name.split()): text for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("contract", PLANTED)
def test_a_turned_arrow_is_refused(contract: str, broken: dict[str, str]) -> None:
    """One forbidden import breaks the contract that is about it, and is named."""
    importer, _, imported = PLANTED[contract]
    assert f"{importer} -> {imported} (" in broken[CONTRACTS[contract]]


@pytest.mark.parametrize(("contract", "package"), [("stages", "ingest"), ("lanes", "handlers")])
def test_a_new_file_takes_its_place(contract: str, package: str, tmp_path: Path) -> None:
    """A file that no layer names breaks the order of stages, even when it imports nothing."""
    copy_packages(tmp_path)
    (tmp_path / package / "somewhere.py").write_text("", encoding="utf-8")
    checked = lint_imports(tmp_path, "--contract", contract)
    assert checked.returncode == 1
    assert "somewhere" in checked.stdout
