"""`python -m tools.migration_lint`: squawk over every migration, each as `slotwire migrate` runs it.

A migration runs in a transaction, where squawk refuses what a transaction cannot do, unless its first line says
otherwise (`ingest/foundation/index_builds.py`): then it is one statement that can be cut off and run again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from slotwire.ingest.foundation.errors import SchemaMismatch
from slotwire.ingest.foundation.index_builds import MARK, read_statement
from slotwire.ingest.foundation.migrations import with_roles
from tools.sources import ROOT

MIGRATIONS = ROOT / "ingest" / "sql" / "migrations"


def problems(name: str, sql: str) -> str:
    """Lint a migration, with the roles' names filled in.

    Args:
        name: of its file, for the findings.
        sql: its text.

    Returns:
        What is wrong, in lines; nothing if it is safe to run.
    """
    outside = sql.startswith(MARK)
    if outside:
        try:
            read_statement(name, sql)
        except SchemaMismatch as error:
            return f"{name}: {error.in_one_line}\n"
    elif "CONCURRENTLY" in sql.upper():
        return f"{name}: no transaction can hold it: begin the file with the line `{MARK.strip()}`\n"
    command = [str(Path(sys.executable).with_name("squawk")), "--reporter", "gcc", "--stdin-filepath", name]
    command += ["--no-assume-in-transaction"] if outside else []
    filled = with_roles(sql, "slotwire").replace('"', "")
    done = subprocess.run(command, input=filled, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def main() -> int:
    """Lint them all."""
    found = "".join(
        problems(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for path in sorted(MIGRATIONS.glob("*.sql"))
    )
    sys.stdout.write(found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
