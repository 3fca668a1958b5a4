"""The migrations pass squawk, as `make lint` runs it, and squawk is shown to bite."""

from __future__ import annotations

import pytest

from slotwire.ingest.foundation.index_builds import MARK
from tests.support.versions import planted
from tools.migration_lint import MIGRATIONS, main, problems

UNSAFE_ON_PURPOSE = {"9001_pre_planted", "9005_post_planted"}
"""They change in one file what real ones change in several, and drop what no code of ours reads."""


def test_every_migration_is_safe_to_run() -> None:
    """No statement of any breaks what runs, by every rule that .squawk.toml does not except."""
    assert list(MIGRATIONS.glob("*.sql"))
    assert main() == 0


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        ("adding-not-nullable-field", "ALTER TABLE slotwire.events ALTER COLUMN data SET NOT NULL;"),
        ("renaming-column", "ALTER TABLE slotwire.events RENAME COLUMN data TO payload;"),
        ("constraint-missing-not-valid", "ALTER TABLE slotwire.events ADD CONSTRAINT c CHECK (position > 0);"),
        ("ban-drop-column", "ALTER TABLE slotwire.events DROP COLUMN data;"),
        ("require-concurrent-index-creation", "CREATE INDEX x ON slotwire.events (time);"),
        (MARK.strip(), "CREATE INDEX CONCURRENTLY IF NOT EXISTS x ON slotwire.events (time);"),
    ],
)
def test_a_dangerous_statement_is_refused(rule: str, statement: str) -> None:
    """A statement that locks a table for long or breaks the version that still runs is an error."""
    assert rule in problems("x.sql", statement)


def test_outside_a_transaction_other_things_are_safe() -> None:
    """The first line says it: an index is then built beside others, and nothing else may be in the file."""
    build = "CREATE INDEX CONCURRENTLY IF NOT EXISTS x ON slotwire.events (time);\n"
    assert problems("x.sql", MARK + build) == ""
    assert "is not a statement that can run outside a transaction" in problems("x.sql", MARK + build + "SELECT 1;\n")
    assert "is not a statement" in problems("x.sql", f"{MARK}ALTER TABLE slotwire.events ADD COLUMN x text;\n")
    for each in planted():
        assert each.name in UNSAFE_ON_PURPOSE or problems(each.name, each.sql) == "", each.name
