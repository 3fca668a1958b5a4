"""Shows how far `pip install -r LOCK` is: reads what pip prints, and writes how many requirements are left.

On a terminal one line is rewritten; elsewhere a line is written per tenth of the requirements, for the logs of a CI.
`make install` runs this before anything is installed, so it stands on the standard library alone.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_REQUIREMENT = re.compile(r"(?:Collecting|Requirement already satisfied:|Ignoring) (?P<name>[A-Za-z0-9._-]+)")
_FILE = re.compile(r"(?:Downloading|Using cached) (?:\S*/)?(?P<file>[^/\s]+) \((?P<size>[0-9.]+) (?P<unit>[a-zA-Z]+)\)")
_MEGABYTES = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


@dataclass
class Progress:
    """How far an installation is.

    Attributes:
        total: requirements in the lock file.
        seen: requirements that pip has come to; one whose marker does not fit this machine counts, too.
        megabytes: downloaded, or taken from pip's cache.
    """

    total: int
    seen: set[str] = field(default_factory=set)
    megabytes: float = 0.0

    def read(self, line: str) -> str | None:
        """Take one line of pip's; returns what to show, or None when the line tells nothing new."""
        if found := _REQUIREMENT.match(line.strip()):
            self.seen.add(found["name"].lower())
            return self._state(f"now {found['name']}")
        if (found := _FILE.match(line.strip())) and not found["file"].endswith(".metadata"):
            size = float(found["size"]) * _MEGABYTES.get(found["unit"], 0.0)
            shown = self._state(f"now {found['file'].split('-')[0]}, {size:.1f} MB")
            self.megabytes += size
            return shown
        if line.startswith("Installing collected packages:"):
            return f"unpacking {line.count(',') + 1} packages, {self.megabytes:.0f} MB"
        if line.startswith("Successfully installed"):
            return f"installed {len(line.split()) - 2} packages"
        return None

    def _state(self, now: str) -> str:
        return f"requirement {len(self.seen)} of {self.total}, {self.megabytes:.0f} MB so far; {now}"


def progress_lines(pip: Iterable[str], total: int, *, every: bool) -> Iterator[str]:
    """Yield what to show: each change, or one for each tenth of the requirements and each later step."""
    progress, shown = Progress(total), 0
    for line in pip:
        text = progress.read(line)
        tenth = len(progress.seen) * 10 // max(total, 1)
        if text is not None and (every or tenth > shown or not text.startswith("requirement")):
            shown = tenth
            yield text


def main() -> None:
    """Read pip's output from the standard input, and show progress on the standard output."""
    total = len(re.findall(r"^[A-Za-z0-9]\S*==", Path(sys.argv[1]).read_text(encoding="utf-8"), re.MULTILINE))
    terminal = sys.stdout.isatty()
    for text in progress_lines(sys.stdin, total, every=terminal):
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write(f"\r\x1b[K{text[:width]}" if terminal else f"{text}\n")
        sys.stdout.flush()
    if terminal:
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
