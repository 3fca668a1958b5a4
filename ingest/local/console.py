"""The output of `slotwire local`: progress and events on stderr, the ready line or the demo on stdout."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TextIO

QUIET_SECONDS = 2.0
"""Where a line cannot be rewritten, progress is printed this often at most."""


@dataclass(frozen=True, slots=True)
class ReadyLine:
    """The ready line: every address and key of a local installation. Its fields are fixed names."""

    hook_url: str = field(repr=False)
    signing_key: str = field(repr=False)
    organization: str
    public_url: str
    admin_url: str
    admin_key: str = field(repr=False)
    health_url: str
    database_url: str = field(repr=False)
    kafka_bootstrap_servers: str
    simulator_url: str
    simulator_token: str = field(repr=False)
    mcp_url: str
    mcp_token: str = field(repr=False)
    state_dir: str

    def line(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps({"ready": True, **asdict(self)})


@dataclass(slots=True)
class Console:
    """Prints text for people, or, with `as_json`, one line for a program.

    Attributes:
        as_json: standard output gets the ready line and nothing else.
        begun: when the command started, by the monotonic clock.
    """

    as_json: bool
    begun: float = field(default_factory=time.monotonic)
    _rewritten: bool = False
    _progress_at: float = 0.0

    def progress(self, line: str) -> None:
        """Print a line of progress; on a terminal it replaces the one before."""
        if sys.stderr.isatty():
            _write(sys.stderr, f"\r\033[K{line[:110]}")
            self._rewritten = True
        elif time.monotonic() - self._progress_at > QUIET_SECONDS:
            _write(sys.stderr, f"{line}\n")
            self._progress_at = time.monotonic()

    def say(self, text: str) -> None:
        """Print something that happened."""
        self._clear()
        _write(sys.stderr, f"{text}\n")

    @property
    def colour(self) -> bool:
        """Whether the demo agent's lines go to a terminal."""
        return self._stream().isatty()

    def show(self, line: str) -> None:
        """Print a line of the demo agent."""
        stream = self._stream()
        mark = "\033[2mdemo-agent │\033[0m" if self.colour else "demo-agent │"
        _write(stream, f"{mark} {line}\n")

    def ready(self, found: ReadyLine, *, demo: bool) -> None:
        """Print that everything runs: for a program with all keys, for a person without secrets."""
        self._clear()
        text = found.line() if self.as_json else self._for_people(found, demo=demo)
        _write(sys.stdout, f"{text}\n")

    def _for_people(self, found: ReadyLine, *, demo: bool) -> str:
        rows = {
            "public": f"{found.public_url}/hooks/calendly/…   receives the deliveries",
            "admin": f"{found.admin_url}/v1/events   management API; needs a key",
            "health": f"{found.health_url}/readyz",
            "MCP": f"{found.mcp_url}   for agents; needs a token",
            "simulator": f"{found.simulator_url}   the simulated Calendly",
            "PostgreSQL": found.database_url.rpartition("@")[2],
            "Kafka": found.kafka_bootstrap_servers,
            "state, logs": found.state_dir,
        }
        now = (
            "The simulator books, moves and cancels meetings; the demo agent prints each event it receives:"
            if demo
            else f"Book a meeting: slotwire simulate book --simulator-url {found.simulator_url}"
        )
        return "\n".join(
            [
                f"Slotwire is ready after {time.monotonic() - self.begun:.1f} s. Ctrl-C stops it.",
                "",
                *(f"  {name:12} {value}" for name, value in rows.items()),
                "",
                f"Hook address, keys, token for MCP:      {found.state_dir}/ready.json (keep it secret)",
                f"To run other commands in another shell: set -a; . {found.state_dir}/slotwire.env; set +a",
                "",
                now,
            ]
        )

    def _stream(self) -> TextIO:
        """The demo agent's lines go to stderr with --json, because stdout then holds the ready line alone."""
        return sys.stderr if self.as_json else sys.stdout

    def _clear(self) -> None:
        if self._rewritten:
            _write(sys.stderr, "\r\033[K")
            self._rewritten = False


def _write(stream: TextIO, text: str) -> None:
    """Write at once. A closed pipe or terminal must not end the command."""
    with suppress(OSError):
        stream.write(text)
        stream.flush()
