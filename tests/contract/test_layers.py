"""The arrows between the parts, held by import-linter; each contract is shown to bite."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.sources import ROOT, copy_packages

# One import for each contract that it must refuse: where it is planted, and what it says.
PLANTED = {
    "contract-is-pure": ("schemas/topics.py", "import ingest.errors"),
    "ingest-knows-no-handlers": ("ingest/pipeline.py", "from handlers import registry"),
    "handlers-stand-on-foundation": ("handlers/context.py", "import ingest.store"),
    "stages": ("ingest/verify.py", "import ingest.normalize"),
    "relay-reads-the-log-only": ("ingest/relay_log.py", "from ingest import store"),
    "pure-core": ("ingest/join.py", "import asyncpg"),
    "one-door-to-calendly": ("ingest/control/subscriptions.py", "import httpx"),
    "doors-to-kafka": ("ingest/store.py", "from aiokafka import AIOKafkaProducer"),
    "simulator-is-apart": ("ingest/simulator/signature.py", "import ingest.verify"),
    "simulator-is-not-in-production": ("ingest/processes.py", "import ingest.simulator.world"),
    "local-is-not-in-production": ("ingest/control/vault.py", "from ingest.local import state"),
    "one-composition-root": ("ingest/local/stack.py", "from ingest.processes import serve"),
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
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {contract["id"] for contract in settings["tool"]["importlinter"]["contracts"]}
    assert contracts == set(PLANTED)


@pytest.mark.parametrize("contract", PLANTED)
def test_a_turned_arrow_is_refused(contract: str, tmp_path: Path) -> None:
    """One forbidden import, planted in a copy, breaks the contract that names it."""
    copy_packages(tmp_path)
    where, planted = PLANTED[contract]
    with (tmp_path / where).open("a", encoding="utf-8") as module:
        module.write(f"\n{planted}\n")
    checked = lint_imports(tmp_path, "--contract", contract)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "BROKEN" in checked.stdout


def test_a_new_file_takes_its_place(tmp_path: Path) -> None:
    """A file of ingest that no layer names breaks the order of stages, even when it imports nothing."""
    copy_packages(tmp_path)
    (tmp_path / "ingest" / "somewhere.py").write_text("", encoding="utf-8")
    checked = lint_imports(tmp_path, "--contract", "stages")
    assert checked.returncode == 1
    assert "somewhere" in checked.stdout
