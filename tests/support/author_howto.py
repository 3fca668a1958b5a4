"""The how-to of agents, followed step by step on a running local stack, as a newcomer would in two shells."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import fork_server
from tools.documents import ROOT

HOWTO = ROOT / "docs" / "howto" / "write-an-agent.md"
DEFAULT_FOLDER = "~/.local/state/slotwire/local"
"""Where an ordinary user's installation is, as the page names it."""
SECONDS = 120.0


class Shell:
    """A shell whose command goes on: its output, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._seen = ""
        self._place = 0
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self._seen += line
                self._more.notify()
        self._process.stdout.close()

    def until(self, pattern: str) -> None:
        """Wait for a text behind the last one that was found."""
        with self._more:
            found = self._more.wait_for(lambda: re.compile(pattern).search(self._seen, self._place), SECONDS)
            assert found, f"{pattern}\nis not in\n{self._seen[self._place :]}"
            self._place = found.end()

    def end(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        os.killpg(self._process.pid, signal.SIGINT)
        assert self._process.wait(SECONDS) == 0, self._seen
        self._reader.join()


@dataclass(frozen=True)
class Newcomer:
    """Somebody who follows the page.

    Attributes:
        steps: the commands of its first section, by the number of the step; 0 is what comes before them.
        folder: the working directory.
        env: the environment of both shells.
        forks: the folder of a `slotwire` that is forked.
    """

    steps: tuple[str, ...]
    folder: Path
    env: dict[str, str]
    forks: Path

    def run(self, commands: str) -> str:
        """Run commands with the settings of the stack, and return what they print; `slotwire` is a fork, and quick."""
        env = {**self.env, "PATH": f"{self.forks}:{self.env['PATH']}"}
        done = subprocess.run(
            ["/bin/bash", "-euc", f"{self.steps[0]}\n{self._inside()}{commands}"],
            text=True, capture_output=True, timeout=SECONDS, check=False, env=env, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def follow(self, step: int) -> str:
        """Run the commands of a step."""
        return self.run(self.steps[step])

    @contextmanager
    def follow_in_the_background(self, step: int) -> Iterator[Shell]:
        """Run the command of a step in a shell without the stack's settings, until the block ends."""
        shell = Shell(
            subprocess.Popen(
                ["/bin/bash", "-euc", f"{self._inside()}exec {self.steps[step]}"],
                text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                env=self.env, cwd=self.folder,
            )
        )  # fmt: skip
        try:
            yield shell
        finally:
            shell.end()

    def change(self, file: str, *pairs: str) -> None:
        """Put other text in place of some of a file's."""
        path = self.folder / "crm" / file
        text = path.read_text()
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text)

    def _inside(self) -> str:
        return "cd crm\n" if (self.folder / "crm").exists() else ""


@contextmanager
def following(state_dir: Path, folder: Path) -> Iterator[Newcomer]:
    """Read the page, and let its commands find the stack in `state_dir` as they would find an ordinary user's."""
    section = HOWTO.read_text(encoding="utf-8").partition("## From nothing to a tested agent")[2].partition("\n## ")[0]
    parts = re.split(r"^\d\. ", section, flags=re.MULTILINE)
    steps = tuple("".join(re.findall(r"^ *```sh\n(.*?)^ *```$", part, re.MULTILINE | re.DOTALL)) for part in parts)
    assert DEFAULT_FOLDER in steps[0]
    base = folder / "state"
    (base / "slotwire").mkdir(parents=True)
    (base / "slotwire" / "local").symlink_to(state_dir)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(folder),
        "XDG_STATE_HOME": str(base),
        "LANG": "C.UTF-8",
        "PYTEST_ADDOPTS": "-p no:schemathesis -p no:hypothesispytest -p no:xdist",  # of this environment, not theirs
    }
    home = tuple(step.replace(DEFAULT_FOLDER, str(state_dir)) for step in steps)
    for name in ("work", "forks"):
        (folder / name).mkdir()
    fork_server.put_command(folder / "forks")
    yield Newcomer(home, folder / "work", env, folder / "forks")
