"""The system packages that `make drills` needs: what is missing, and how to get it.

    python -m tools.drills             say what is missing; exits with 1 if anything is
    python -m tools.drills --install   install it with apt first, as root on Debian or Ubuntu

A test that needs one of these programs has the marker `drills` and takes its path from `program`, which fails where
the program is missing: no drill is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SystemProgram:
    """A program that no Python package brings.

    Attributes:
        name: as it is called.
        package: Debian's package that has it.
        purpose: what the drills do with it, for the message.
    """

    name: str
    package: str
    purpose: str


PROGRAMS = (
    SystemProgram("initdb", "postgresql", "is a Postgres of another version than the embedded one, and speaks TLS"),
    SystemProgram("pgbouncer", "pgbouncer", "is a pooler before Postgres"),
    SystemProgram("promtool", "prometheus", "checks the alert rules and runs their tests"),
    SystemProgram("node", "nodejs", "runs a consumer in another language"),
    SystemProgram("npm", "npm", "installs that consumer's clients"),
    SystemProgram("chromium", "chromium", "is the browser in which a customer connects"),
)
"""Whatever a drill runs beyond Python packages; a drill that needs another program adds its line here."""


class ProgramMissing(Exception):
    """A program of `PROGRAMS` is not on this machine."""


def program(name: str) -> str:
    """Return the path of a program of `PROGRAMS`.

    Raises:
        ProgramMissing: it is not installed; the message says how to get it.
        KeyError: no such program is in the list.
    """
    wanted = {each.name: each for each in PROGRAMS}[name]
    if (path := _path(wanted)) is None:
        raise ProgramMissing(_message([wanted]))
    return path


def missing() -> list[SystemProgram]:
    """List the programs that are not on this machine."""
    return [each for each in PROGRAMS if _path(each) is None]


def install(programs: list[SystemProgram]) -> str | None:
    """Install programs with apt; returns None, or why that cannot be done here."""
    if os.geteuid() != 0 or (apt := shutil.which("apt-get")) is None:
        return "apt-get and root are needed to install it for you."
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", apt, "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"]
    packages = sorted({each.package for each in programs})
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run([*quiet, *arguments], stdout=sys.stderr, check=False)
        if done.returncode != 0:
            return f"apt-get {arguments[0]} ended with {done.returncode}."
    return None


def main() -> None:
    """Say what is missing, after trying to install it if that was asked for."""
    if sys.argv[1:] not in ([], ["--install"]):
        sys.exit("usage: python -m tools.drills [--install]")
    reason = install(lacking) if (lacking := missing()) and sys.argv[1:] else None
    if lacking := missing():
        sys.exit("\n".join(filter(None, (_message(lacking), reason))))


def _path(wanted: SystemProgram) -> str | None:
    # Debian keeps servers out of the search path of users, and each version of Postgres in a folder of its own.
    versions = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(wanted.name) or shutil.which(wanted.name, path=":".join(["/usr/sbin", "/sbin", *versions]))


def _message(lacking: list[SystemProgram]) -> str:
    told = [f"slotwire: the drills need {each.name}, which {each.purpose}." for each in lacking]
    packages = " ".join(sorted({each.package for each in lacking}))
    return "\n".join([*told, f"On Debian and Ubuntu: apt install {packages}. Then run the command again."])


if __name__ == "__main__":
    main()
