"""The local stack of this machine, for commands that work on it: its folder, and the settings that it wrote there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.settings_base import PREFIX

READY_FILE = "ready.json"
"""There while the stack is ready."""
ENVIRONMENT_FILE = "slotwire.env"
"""The settings of operators: any command works on the stack with them."""
AGENTS_FILE = "agents.env"
"""The settings of a process that runs an author's code: a role of its own, and no key."""


def default_state_dir() -> Path:
    """Return where the stack stores its data between runs: the XDG state folder, or for root a system folder."""
    return _base("XDG_STATE_HOME", ".local/state", "/var/lib") / "slotwire" / "local"


def loading() -> str:
    """Say how the settings of the local stack are loaded, as the end of a remedy; nothing where it never ran."""
    file = default_state_dir() / ENVIRONMENT_FILE
    return f"\nTo work on the local stack: set -a; . {file}; set +a" if file.exists() else ""


def cache_dir() -> Path:
    """Return where downloads are stored, outside any checkout: the XDG cache, or for root a system folder."""
    return _base("XDG_CACHE_HOME", ".cache", "/var/cache") / "slotwire"


def _base(variable: str, in_home: str, of_system: str) -> Path:
    """Return a base folder. The XDG specification says to ignore a value that is not absolute.

    The account that runs Postgres cannot enter root's home, so root gets a system folder.
    """
    value = os.environ.get(variable, "")
    if value.startswith("/"):
        return Path(value)
    return Path(of_system) if os.geteuid() == 0 else Path.home() / in_home


@dataclass(frozen=True, slots=True)
class LocalStack:
    """A stack that runs.

    Attributes:
        state_dir: its folder.
    """

    state_dir: Path

    def settings(self, file: str) -> dict[str, str]:
        """Return the variables of one of its files.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            text = (self.state_dir / file).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{self.state_dir / file} cannot be read: {(error.strerror or 'unknown error').lower()}",
                remedy="Start the stack of this version once: slotwire local",
            ) from error
        words = (shlex.split(line, comments=True) for line in text.splitlines())
        pairs = (line[0].partition("=") for line in words if line)
        return {name: value for name, _, value in pairs}

    def environment(self, file: str) -> dict[str, str]:
        """Return the environment of a child that works on this stack: ours, with its settings in place of ours."""
        return {**{name: value for name, value in os.environ.items() if not _is_ours(name)}, **self.settings(file)}


def running_stack(state_dir: Path | None) -> LocalStack:
    """Find the local stack.

    Args:
        state_dir: its folder; None for the usual one.

    Raises:
        ConfigurationError: none runs there.
    """
    folder = state_dir or default_state_dir()
    if not (folder / READY_FILE).exists():
        raise ConfigurationError(
            f"no local stack runs in {folder}",
            remedy="Start one in another shell, and wait until it is ready: slotwire local",
        )
    return LocalStack(folder)


def assignments(heading: str, settings: Mapping[str, str]) -> str:
    """Write settings in the form that a shell reads."""
    return f"# {heading}\n" + "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())


def _is_ours(name: str) -> bool:
    return name.upper().startswith(PREFIX)
