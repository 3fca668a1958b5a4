"""What the contract tests read: the files of this repository, as a commit of the working tree would hold them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ingest", "handlers", "schemas")
"""The folders at the top that are imported as `slotwire.…`, by links in `src/slotwire`."""
_NEVER_TRACKED = {".git", ".venv", "__pycache__", "dist", "bench-results", ".hypothesis", ".slotwire"}


def repository_files() -> list[Path]:
    """List the files of the repository, relative to its root; new ones too, ignored ones not.

    Outside a git checkout (an unpacked archive) every file counts that is not in a folder git would ignore.
    """
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        return sorted(path for name in set(listed.split("\0")) if name and (ROOT / (path := Path(name))).is_file())
    return sorted(
        path for found in ROOT.rglob("*") if found.is_file() and not _is_ignored(path := found.relative_to(ROOT))
    )


def copy_packages(target: Path) -> None:
    """Copy what the wheel is made of into a folder, to change it there."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "src", target / "src", symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)


def _is_ignored(path: Path) -> bool:
    return any(part in _NEVER_TRACKED or part.endswith((".egg-info", "_cache")) for part in path.parts)
