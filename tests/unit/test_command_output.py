"""What commands do where their output cannot be written as it is: no stack trace, and nothing left unsaid."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from slotwire.ingest import cli
from slotwire.ingest.cli import local
from slotwire.ingest.errors import SlotwireError

COMMAND = (sys.executable, "-m", "slotwire.ingest.cli")


def test_a_full_disk_is_said() -> None:
    """A list that goes to a disk without room ends with 1 and with what to do."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "calendly"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (1, "slotwire: there is no room to write")
    assert "Make room" in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_character_that_the_terminal_lacks_is_spelt(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is printed whole, whatever the encoding of the terminal."""
    printed = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(printed, encoding=encoding))
    monkeypatch.setattr(cli, "app", lambda: sys.stdout.write("├── Zoë\n"))
    cli.main()
    sys.stdout.flush()
    assert printed.getvalue() == "├── Zoë\n".encode(encoding, "backslashreplace")


def test_an_ephemeral_run_names_no_log_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is deleted before anybody reads why it could not start: the last lines are said, and no path."""

    def fails(folder: Path, **_: object) -> None:
        raise SlotwireError("mcp is not ready", remedy=f"its last line\nIts log: {folder}/logs/mcp.log")

    monkeypatch.setattr(local, "_run", fails)
    with pytest.raises(SlotwireError, match="mcp is not ready") as caught:
        local.local(ephemeral=True)
    first, last = caught.value.remedy.splitlines()
    assert (first, "--state-dir DIR" in last) == ("its last line", True)
