"""`make drills` where a program is missing: it says which, what for and how to get it, and skips nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools import drills
from tools.sources import ROOT


def without_programs(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the check on a machine without any of the programs, and without apt."""
    nowhere = "import shutil; shutil.which = lambda *_, **__: None"
    script = f"{nowhere}; import runpy; runpy.run_module('tools.drills', run_name='__main__')"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_names_what_is_missing_and_how_to_get_it() -> None:
    """Each missing program is named with its purpose, and one line installs all of them."""
    said = without_programs()
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == len(drills.PROGRAMS) + 1
    for program in drills.PROGRAMS:
        assert f"the drills need {program.name}, which {program.purpose}." in said.stderr
        assert program.package in said.stderr.splitlines()[-1]


def test_it_says_why_it_cannot_install() -> None:
    """Where there is no apt, asking it to install fails and says so: nothing is passed over in silence."""
    said = without_programs("--install")
    assert said.returncode == 1
    assert said.stderr.endswith("apt-get and root are needed to install it for you.\n")


def test_a_drill_without_its_program_fails() -> None:
    """A test that asks for a missing program gets an error with the way to install it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.which", lambda *_, **__: None)
        with pytest.raises(drills.ProgramMissing, match="apt install"):
            drills.program(drills.PROGRAMS[0].name)


def test_the_submission_runs_them() -> None:
    """`.ci/run` runs the suite, then installs what the drills need, then the drills, and ends at the first failure."""
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-3:] == ["make test", ".venv/bin/python -m tools.drills --install", "make drills"]
    assert "set -euo pipefail" in lines
