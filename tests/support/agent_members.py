"""An agent in a package of its own, and its members as processes: started, killed, sent away and deployed anew."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Self

from tests.support.agent_setup import AgentSetup
from tests.support.fork_server import Forked

MEMBERS = (0, 1)


class Members:
    """Two processes of an agent.

    Attributes:
        killed: how many were killed.
    """

    def __init__(self, setup: AgentSetup, folder: Path, code: str, *, named: bool = True, **settings: str) -> None:
        """Take what they need.

        Args:
            setup: their servers.
            folder: where the package is written.
            code: of the module `package.agent`, in which `agent` is.
            named: whether each has a name that stays with it.
            settings: of the group `SLOTWIRE_AGENTS__`, by their names.
        """
        self._setup = setup
        self._folder = folder
        self._code = code
        self._named = named
        self._settings = {f"SLOTWIRE_AGENTS__{name.upper()}": value for name, value in settings.items()}
        self._running: dict[int, Forked] = {}
        self.killed = 0

    async def __aenter__(self) -> Self:
        """Write the package, and start them."""
        (self._folder / "package").mkdir()
        (self._folder / "package" / "__init__.py").touch()
        self.deploy(self._code)
        for place in MEMBERS:
            self.start(place)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop them."""
        for place in list(self._running):
            await self._end(place, signal.SIGTERM)

    def deploy(self, code: str) -> None:
        """Write other code: whoever is started from now on runs it."""
        # What was compiled within the same second would be taken for the new code's.
        shutil.rmtree(self._folder / "package" / "__pycache__", ignore_errors=True)
        written = self._folder / "package" / "agent.new"
        written.write_text(code)
        written.rename(self._folder / "package" / "agent.py")  # whole, for a member that begins right now

    def start(self, place: int) -> None:
        """Start one."""
        environment = {
            **self._setup.environment(),
            "SLOTWIRE_AGENTS__SESSION_TIMEOUT_SECONDS": "6",
            "SLOTWIRE_AGENTS__GROUP_INSTANCE_ID": f"member-{place}",
            **self._settings,
        }
        if not self._named:
            del environment["SLOTWIRE_AGENTS__GROUP_INSTANCE_ID"]
        self._running[place] = Forked(("agents", "run", "package.agent:agent"), environment, self._folder)

    async def end(self, place: int, how: signal.Signals) -> None:
        """End one by a signal, and start it again."""
        await self._end(place, how)
        self.start(place)

    async def _end(self, place: int, how: signal.Signals) -> None:
        process = self._running.pop(place)
        process.send_signal(how)
        # One that is told to stop before it has begun to listen is ended by the system.
        assert await process.wait() in {-how, 0 if how is signal.SIGTERM else -how}
        self.killed += how is signal.SIGKILL
