"""Builds the wheels so that the same commit gives the same bytes, wherever and whenever it is built."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

FOLDERS = (".", "schemas")
"""The projects that become a wheel each: the application, and the contract alone."""


def export(repository: Path, commit: str, target: Path) -> int:
    """Write the files of a commit into a folder, so that nothing else of the working tree can get into a wheel.

    Returns:
        The time of the commit, in seconds since 1970.
    """
    archive = _git(repository, "archive", "--format=tar", commit)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extraction_filter = getattr(tarfile, "tar_filter", None)  # Python before 3.11.4 has none
        opened.extractall(target)  # noqa: S202 - what git wrote
    return int(_git(repository, "log", "-1", "--format=%ct", commit))


def uncommitted(repository: Path) -> list[str]:
    """List what is changed or new in a working tree, as git says it."""
    return _git(repository, "status", "--porcelain").decode().splitlines()


def build_wheels(source: Path, target: Path, *, epoch: int) -> list[Path]:
    """Build both wheels with the installed backend, whose version the lock file pins.

    Args:
        source: the repository's files.
        target: where the wheels go.
        epoch: the time that their entries get, in seconds since 1970.

    Raises:
        RuntimeError: the backend failed; what it wrote is in the message.
    """
    before = set(target.glob("*.whl"))
    for folder in FOLDERS:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target.resolve())]
        timed = ["env", f"SOURCE_DATE_EPOCH={epoch}", *command]
        done = subprocess.run(timed, cwd=source / folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the wheel of {folder} could not be built:\n{done.stdout}{done.stderr}")
    return sorted(set(target.glob("*.whl")) - before)


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=repository, capture_output=True, check=True).stdout
