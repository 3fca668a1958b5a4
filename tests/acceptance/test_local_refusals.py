"""When `slotwire local` cannot start, it says what is wrong and what to do, on one screen, and exits with 1."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slotwire.ingest.local.stack import ephemeral_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state folder that the account of Postgres can reach."""
    with ephemeral_folder() as made:
        yield made


def _refused(*options: str | Path, **variables: str) -> str:
    """Run the command, check that it fails with a readable error, and return the message."""
    done = subprocess.run(
        [sys.executable, "-m", "slotwire.ingest.cli", "local", *map(str, options)],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 12
    return done.stderr


def _mark(folder: Path) -> None:
    folder.mkdir(mode=0o711)
    (folder / "slotwire-state").write_text("1\n")


def test_no_network_at_the_first_start(folder: Path, tmp_path: Path) -> None:
    """With an empty cache and a closed proxy it ends at once and names proxy and mirror."""
    said = _refused("--state-dir", folder, XDG_CACHE_HOME=str(tmp_path / "cache"), HTTPS_PROXY="http://127.0.0.1:9")
    assert "Kafka cannot be downloaded" in said
    assert "HTTPS_PROXY" in said
    assert "SLOTWIRE_LOCAL__MAVEN_REPOSITORY" in said


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("postgres/data/PG_VERSION", "15\n", "written by PostgreSQL 15"),
        ("kafka/VERSION", "3.8.0\n", "written by Kafka 3.8.0"),
    ],
)
def test_data_of_another_version(folder: Path, file: str, content: str, words: str) -> None:
    """Old data is named with its version, and how to delete it; it is not touched."""
    _mark(folder)
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text(content)
    said = _refused("--state-dir", folder)
    assert words in said
    assert f"slotwire local --wipe --state-dir {folder}" in said
    assert (folder / file).read_text() == content


@pytest.mark.parametrize("name", ["postgres", "kafka", "serve", "admin", "simulator"])
def test_a_stored_port_that_is_in_use(folder: Path, name: str) -> None:
    """The message names the port and the file that stores it."""
    _mark(folder)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (folder / "ports.json").write_text(json.dumps({name: port}))
        said = _refused("--state-dir", folder)
    assert f"port {port}" in said
    assert "ports.json" in said


def test_options_that_contradict_each_other(folder: Path) -> None:
    """An ephemeral installation has no folder to name or wipe."""
    assert "--ephemeral uses a temporary folder" in _refused("--ephemeral", "--state-dir", folder)
    assert "--ephemeral uses a temporary folder" in _refused("--ephemeral", "--wipe")


def test_a_folder_that_is_not_ours_is_not_wiped(tmp_path: Path) -> None:
    """`--wipe` of a mistyped folder deletes nothing."""
    (tmp_path / "thesis.txt").write_text("mine")
    assert "nothing was deleted" in _refused("--wipe", "--state-dir", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_misspelt_setting(folder: Path) -> None:
    """An unknown variable is named with the nearest known one."""
    said = _refused("--state-dir", folder, SLOTWIRE_LOCAL__MAVEN_REPOSITRY="x")
    assert "SLOTWIRE_LOCAL__MAVEN_REPOSITORY" in said
