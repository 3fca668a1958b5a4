"""What was released stays as it was: its migrations are this version's first ones, octet for octet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.versions import Release, releases
from tools.sources import ROOT

MIGRATIONS = ROOT / "ingest" / "sql" / "migrations"


def edited(released: Release, folder: Path) -> list[str]:
    """Name the migrations of a release that a folder has not, or has otherwise."""
    return [
        name
        for name, text in released.migrations.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != text
    ]


@pytest.mark.parametrize("released", releases(), ids=lambda released: released.version)
def test_a_released_migration_is_never_edited(released: Release) -> None:
    """Every database that a release has migrated can be migrated by this version: migrations are only added."""
    assert edited(released, MIGRATIONS) == []
    assert (
        list(released.migrations) == sorted(path.name for path in MIGRATIONS.glob("*.sql"))[: len(released.migrations)]
    )


def test_an_edit_is_noticed(tmp_path: Path) -> None:
    """The comparison bites: a changed octet, and a file that is gone."""
    oldest = releases()[0]
    first, *others = oldest.migrations
    for name in others:
        (tmp_path / name).write_bytes(oldest.migrations[name])
    assert edited(oldest, tmp_path) == [first]
    (tmp_path / first).write_bytes(oldest.migrations[first] + b"\n")
    assert edited(oldest, tmp_path) == [first]
