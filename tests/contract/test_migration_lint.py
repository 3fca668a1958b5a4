"""The migrations pass squawk, as `make lint` runs it, and squawk is shown to bite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slotwire.ingest.foundation.migrations import with_roles
from tools.sources import ROOT

MIGRATIONS = sorted((ROOT / "ingest" / "sql" / "migrations").glob("*.sql"))


def squawk(sql: str) -> subprocess.CompletedProcess[str]:
    """Lint one migration, with the roles' names filled in."""
    command = [str(Path(sys.executable).with_name("squawk")), "--reporter", "gcc"]
    filled = with_roles(sql, "slotwire").replace('"', "")
    return subprocess.run(command, input=filled, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda path: path.name)
def test_a_migration_is_safe_to_run(migration: Path) -> None:
    """No statement of it breaks what runs, by every rule that .squawk.toml does not except."""
    checked = squawk(migration.read_text(encoding="utf-8"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        ("adding-not-nullable-field", "ALTER TABLE slotwire.events ALTER COLUMN data SET NOT NULL;"),
        ("renaming-column", "ALTER TABLE slotwire.events RENAME COLUMN data TO payload;"),
        ("constraint-missing-not-valid", "ALTER TABLE slotwire.events ADD CONSTRAINT c CHECK (position > 0);"),
        ("ban-drop-column", "ALTER TABLE slotwire.events DROP COLUMN data;"),
    ],
)
def test_a_dangerous_statement_is_refused(rule: str, statement: str) -> None:
    """A statement that locks a table for long or breaks the version that still runs is an error."""
    checked = squawk(statement)
    assert checked.returncode != 0
    assert rule in checked.stdout + checked.stderr
