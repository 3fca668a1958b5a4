"""Runs mypy and pyright, and reads what they found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Findings:
    """What a type checker found.

    Attributes:
        files: how many files it analysed.
        errors: name of the file, line from 1, and the code of each error or warning.
        text: its output.
    """

    files: int
    errors: frozenset[tuple[str, int, str]]
    text: str


def mypy(folder: Path, *options: str, python: Path = Path(sys.executable), cache: Path = Path("/dev/null")) -> Findings:
    """Run mypy in a folder, with the packages of an interpreter."""
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "--python-executable", str(python)]
    text = _output([*command, *options], folder)
    found = re.findall(r"^(\S+?):(\d+): error: .*\[([a-z-]+)\]$", text, re.MULTILINE)
    counted = re.search(r"(?:checked|in) (\d+) source files?", text)
    assert counted, text
    assert ("error:" in text) == bool(found), text
    return Findings(int(counted[1]), frozenset((Path(name).name, int(line), code) for name, line, code in found), text)


def pyright(folder: Path, *options: str) -> Findings:
    """Run pyright in a folder that has its settings. It runs on the Node of a wheel and downloads nothing."""
    text = _output([sys.executable, "-m", "pyright", "--outputjson", *options], folder)
    report = json.loads(text)
    errors = frozenset(
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1, item.get("rule", item["message"]))
        for item in report["generalDiagnostics"]
        if item["severity"] in {"error", "warning"}
    )
    return Findings(report["summary"]["filesAnalyzed"], errors, text)


def _output(command: Sequence[str], folder: Path) -> str:
    """Run a checker, which ends with 1 when it found something."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout
