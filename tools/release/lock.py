"""Reads a lock file: which packages, in which versions, with which hashes, and who needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

OURS = "slotwire (pyproject.toml)"
"""How a lock file names what it was made for."""
_ENTRY = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\\n]+?))? \\\n(?P<rest>(?: .*\n?)*)", re.MULTILINE
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_VIA = re.compile(r"^ +# +(?:via)?(?: *(\S.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class LockedPackage:
    """A package of a lock file.

    Attributes:
        name: as the lock file writes it, which is normalized.
        version: the one version.
        marker: where it is installed; empty for everywhere.
        hashes: SHA-256 of each file that may be installed, in hexadecimal.
        needed_by: the packages that need it; `OURS` for the project itself.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]


def read_lock(path: Path) -> tuple[LockedPackage, ...]:
    """Read a lock file made by `make lock`.

    Raises:
        ValueError: a line with a version is in no form that this function knows.
    """
    text = path.read_text(encoding="utf-8")
    found = tuple(
        LockedPackage(
            entry["name"],
            entry["version"],
            entry["marker"] or "",
            tuple(_HASH.findall(entry["rest"])),
            tuple(name for name in _VIA.findall(entry["rest"]) if name),
        )
        for entry in _ENTRY.finditer(text)
    )
    if len(found) != sum("==" in line and not line.startswith(" ") for line in text.splitlines()):
        raise ValueError(f"{path.name} has lines in an unknown form: make it with `make lock`")
    return found


def needs(packages: Iterable[LockedPackage]) -> Mapping[str, tuple[str, ...]]:
    """Return what each package needs, by name; `OURS` stands for the project itself."""
    found: dict[str, list[str]] = {}
    for package in packages:
        for name in package.needed_by:
            found.setdefault(name, []).append(package.name)
    return {name: tuple(sorted(needed)) for name, needed in found.items()}


def closure(packages: Iterable[LockedPackage], roots: Iterable[str]) -> tuple[LockedPackage, ...]:
    """Return some packages of a lock file with all that they need, in the file's order."""
    listed = tuple(packages)
    needed, found = needs(listed), set[str]()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(needed.get(name, ()))
    return tuple(package for package in listed if package.name in found)
