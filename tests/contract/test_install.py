"""`make` on a machine that lacks something: a clear message, and no stack trace. Each in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.sources import ROOT, copy_packages


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what `make install` reads, without an environment."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    copy_packages(folder)
    shutil.copy(ROOT / "Makefile", folder / "Makefile")
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    return folder


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the copy; nothing of the environment reaches it but where programs are."""
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "HOME": str(checkout)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fake_python(checkout: Path, script: str) -> str:
    """Make a Python that is none, and return its path."""
    path = checkout / "fake-python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def refused(made: subprocess.CompletedProcess[str]) -> str:
    """Return what was said, once it is sure that it fits on a screen and failed cleanly."""
    assert made.returncode != 0, made.stdout + made.stderr
    assert "Traceback" not in made.stderr
    assert len(made.stderr.splitlines()) < 10
    said = [line for line in made.stderr.splitlines() if line.startswith("slotwire:")]
    assert len(said) == 1, made.stderr
    return said[0]


def test_too_old_a_python(checkout: Path) -> None:
    """An older Python is named with its version, and so is the way to name a newer one; nothing is made."""
    old = fake_python(checkout, 'case "$1" in -c) exit 1;; --version) echo "Python 3.10.12";; esac')
    said = refused(make(checkout, "install", f"PYTHON={old}"))
    assert "3.11 or newer is needed, Python 3.10.12 was found" in said
    assert "make install PYTHON=" in said
    assert not (checkout / ".venv").exists()


def test_no_python(checkout: Path) -> None:
    """A Python that is not there is named."""
    said = refused(make(checkout, "install", "PYTHON=python-nowhere"))
    assert "'python-nowhere' was not found" in said
    assert "make install PYTHON=" in said


def test_no_venv_module(checkout: Path) -> None:
    """A Python without venv, as Debian splits it, is told which package is missing."""
    bare = fake_python(checkout, 'case "$2" in *ensurepip*) echo "No module named ensurepip" >&2; exit 1;; esac')
    said = refused(make(checkout, "install", f"PYTHON={bare}"))
    assert "no venv module" in said
    assert "python3-venv" in said
    assert not (checkout / ".venv").exists()


def test_a_half_made_environment_is_removed(checkout: Path) -> None:
    """When making the environment fails, nothing of it stays that a second try would take for whole."""
    failing = fake_python(checkout, 'case "$1" in -m) mkdir -p "$3/bin"; echo "no space left" >&2; exit 1;; esac')
    made = make(checkout, "install", f"PYTHON={failing}")
    assert made.returncode != 0
    assert "no space left" in made.stderr
    assert not (checkout / ".venv").exists()


def test_no_package_index(checkout: Path) -> None:
    """When the requirements cannot be fetched, the message says so, and a second try begins there again."""
    made_by = fake_python(
        checkout,
        'case "$1" in -m) mkdir -p "$3/bin"; printf "#!/bin/sh\\necho connection refused >&2; exit 1\\n" '
        '> "$3/bin/python"; chmod +x "$3/bin/python";; esac',
    )
    for _ in range(2):
        said = refused(make(checkout, "install", f"PYTHON={made_by}"))
        assert "is the package index reachable?" in said
    assert not (checkout / ".venv" / ".installed").exists()


def test_an_installed_checkout_installs_nothing(checkout: Path) -> None:
    """What is there already is not installed again: not even a Python is needed."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".installed").touch()
    made = make(checkout, "install", "PYTHON=python-nowhere")
    assert made.returncode == 0, made.stderr
    assert "installing" not in made.stdout


def test_clean_never_touches_data(checkout: Path) -> None:
    """`make clean` removes what was built and installed, and leaves data and settings alone."""
    for name in (".venv", "dist", ".ruff_cache", "ingest/__pycache__", ".slotwire", "bench-results"):
        (checkout / name).mkdir()
        (checkout / name / "content").touch()
    (checkout / ".env").touch()
    assert make(checkout, "clean").returncode == 0
    assert not any((checkout / name).exists() for name in (".venv", "dist", ".ruff_cache", "ingest/__pycache__"))
    assert (checkout / ".slotwire" / "content").exists()
    assert (checkout / "bench-results" / "content").exists()
    assert (checkout / ".env").exists()


def test_help_names_every_target(checkout: Path) -> None:
    """`make` alone lists every target with what it does."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    told = re.findall(r"^  make ([a-z]+) +\S", make(checkout).stdout, re.MULTILINE)
    assert sorted(told) == sorted(phony[1].split())
