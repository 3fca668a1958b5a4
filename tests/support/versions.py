"""Versions of the code that were released, for tests that hold this one against them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tools.sources import ROOT

RELEASED = ROOT / "tests" / "migration" / "released"
_MIGRATIONS = "slotwire/ingest/sql/migrations/"


@dataclass(frozen=True)
class Release:
    """A version that was released, as its wheel.

    Attributes:
        version: its number.
        wheel: the file.
    """

    version: str
    wheel: Path

    @cached_property
    def migrations(self) -> Mapping[str, bytes]:
        """Its migrations, by their file names."""
        with zipfile.ZipFile(self.wheel) as opened:
            names = [name for name in opened.namelist() if name.startswith(_MIGRATIONS) and name.endswith(".sql")]
            return {name.removeprefix(_MIGRATIONS): opened.read(name) for name in names}


def releases() -> list[Release]:
    """Return what was released, the oldest first."""
    folders = [folder for folder in RELEASED.iterdir() if folder.is_dir()]
    folders.sort(key=lambda folder: [int(part) for part in folder.name.split(".")])
    return [Release(folder.name, wheel) for folder in folders for wheel in folder.glob("slotwire-*.whl")]
