"""Child processes: they start in groups of their own, stop on demand, and end when we do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.local.children import Child, ChildrenFile, descendants, start_time

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def _spawn(tmp_path: Path, *argv: str) -> Child:
    return Child.spawn("the test's child", argv, log=tmp_path / "child.log", environment=ENVIRONMENT)


def _wait_until_gone(pid: int, born: str) -> None:
    deadline = time.monotonic() + 60
    while start_time(pid) == born:
        assert time.monotonic() < deadline, f"process {pid} is still there"


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Stopping escalates to SIGKILL, and reaches the whole process group."""
    child = _spawn(tmp_path, "/bin/sh", "-c", "trap '' TERM; echo up; sleep 600 & wait; sleep 600")
    while "up" not in child.output():
        assert child.running
    await child.stop((signal.SIGTERM, 0.2))
    assert child.process.returncode == -signal.SIGKILL


async def test_a_child_gets_only_the_environment_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the test does not reach the child."""
    monkeypatch.setenv("SLOTWIRE_SECRET_OF_OURS", "x")
    child = _spawn(tmp_path, "/usr/bin/env")
    assert await child.wait(60)
    assert "SLOTWIRE_SECRET_OF_OURS" not in child.output()
    assert f"PATH={ENVIRONMENT['PATH']}" in child.output()


async def test_output_is_that_of_this_run(tmp_path: Path) -> None:
    """The log holds earlier runs too; messages quote the current one only."""
    for word in ("first", "second"):
        child = _spawn(tmp_path, "/bin/echo", word)
        assert await child.wait(60)
        assert child.output() == f"{word}\n"
    assert (tmp_path / "child.log").stat().st_mode & 0o077 == 0


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing program is a clear message."""
    with pytest.raises(SlotwireError, match=r"the test's child could not be started: no such file"):
        _spawn(tmp_path, str(tmp_path / "missing"))


def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """After `kill -9` of the parent nothing of the stack remains."""
    program = textwrap.dedent(
        """
        import pathlib, sys, time
        from slotwire.ingest.local.children import Child
        log = pathlib.Path(sys.argv[1])
        child = Child.spawn("child", ["/bin/sleep", "600"], log=log, environment={})
        print(child.pid, flush=True)
        time.sleep(600)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    born = start_time(pid)
    assert born
    parent.kill()
    parent.communicate()
    _wait_until_gone(pid, born)


async def test_strays_of_an_earlier_run_are_ended(tmp_path: Path) -> None:
    """Where the system has no death signal, the next start ends the listed processes, frozen ones too."""
    children = ChildrenFile(tmp_path / "children.json")
    stray = _spawn(tmp_path, "/bin/sleep", "600")
    children.record(stray)
    stray.freeze()
    assert await children.end_strays() == ["the test's child"]
    assert await stray.wait(60)
    assert not children.path.exists()


async def test_another_program_with_a_recorded_process_id_is_left_alone(tmp_path: Path) -> None:
    """If the system has given the process id to another program, its start time differs, and it is not ended."""
    children = ChildrenFile(tmp_path / "children.json")
    stranger = _spawn(tmp_path, "/bin/sleep", "600")
    children.path.write_text(f'{{"Postgres": [{stranger.pid}, "12345"]}}')
    assert await children.end_strays() == []
    assert stranger.running
    await stranger.kill()


async def test_killing_reaches_descendants_with_sessions_of_their_own(tmp_path: Path) -> None:
    """Postgres's backends leave the process group; `kill` finds them by parentage."""
    script = "import os, time; os.fork() or os.setsid(); print('up', flush=True); time.sleep(600)"
    child = _spawn(tmp_path, sys.executable, "-c", script)
    while child.output().count("up") < 2:
        assert child.running
    family = descendants(child.pid)
    assert len(family) == 1
    born = start_time(family[0])
    await child.kill()
    assert start_time(family[0]) != born
