"""Slotwire's own processes as children of a test, with settings given as their environment.

They are forked by `tests.support.fork_server`, which saves a second of CPU each.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from slotwire.ingest.foundation.author_environment import OF_OTHERS
from slotwire.ingest.foundation.migrations import PROCESSES
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.settings_base import PREFIX
from slotwire.ingest.local.state import port_is_free
from tests.support.fork_server import Forked
from tests.support.plain_http import NO_TLS

READY_SECONDS = 120
PORTS = range(10_000, 20_000)
_taken = list[socket.socket]()


def environment(settings: Settings, **extra: str) -> dict[str, str]:
    """Write settings as the environment of a child."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    hook_keys = ",".join(key.get_secret_value() for key in settings.http.hook_keys)
    return {
        **clean,
        "SLOTWIRE_DATABASE_URL": settings.database_url.get_secret_value(),
        "SLOTWIRE_PUBLIC_URL": settings.public_url,
        "SLOTWIRE_HTTP__HOST": "127.0.0.1",
        "SLOTWIRE_HTTP__DRAIN_SECONDS": "0.05",
        "SLOTWIRE_HTTP__HOOK_KEYS": hook_keys,
        "SLOTWIRE_VAULT__KEYS": ",".join(key.get_secret_value() for key in settings.vault.keys),
        **extra,
    }


@atexit.register
def _give_back_ports() -> None:
    for mark in _taken:
        mark.close()


def free_port() -> int:
    """Return a port that nobody listens on, and that no test of this machine is given again while this process lives.

    It lies below the ports that systems choose for connections, so none of these takes it before its listener is up.
    The UDP port of the same number is held as the mark that it is taken.
    """
    while True:
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port = secrets.choice(PORTS)
        try:
            mark.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        if port_is_free(port):
            _taken.append(mark)
            return port
        mark.close()


@dataclass
class Process:
    """One running command of ours."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    child: Forked
    health_port: int
    version: Path | None = None

    async def kill(self) -> None:
        """End it as the kernel would: at once."""
        self.child.kill()
        await self.child.wait()

    async def restart(self) -> None:
        """Start it again after its end."""
        self.child = _forked(self.arguments, self.environment, self.version)

    async def problems(self) -> dict[str, str] | None:
        """Return why it is not ready, by the check; empty when it is, None when its health port does not answer."""
        async with httpx.AsyncClient(verify=NO_TLS) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.health_port}/readyz")
            except httpx.TransportError:
                return None
        found: dict[str, str] = answer.json()["problems"]
        return found

    async def until_problem(self, words: str) -> str:
        """Wait until it is not ready for a reason with these words in it; return the reason."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                for problem in (await self.problems() or {}).values():
                    if words in problem:
                        return problem
                if self.child.returncode is not None:
                    raise AssertionError(f"{self.arguments} ended with {self.child.returncode}")
                await asyncio.sleep(0.02)

    async def until_ready(self) -> None:
        """Wait until its health port says that it is ready."""
        async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(verify=NO_TLS) as client:
            while True:
                try:
                    answer = await client.get(f"http://127.0.0.1:{self.health_port}/readyz")
                except httpx.TransportError:
                    answer = None
                if answer is not None and answer.status_code == 200:
                    return
                if self.child.returncode is not None:
                    raise AssertionError(f"{self.arguments} ended with {self.child.returncode}")
                await asyncio.sleep(0.02)


def with_own_role(process: str, env: dict[str, str]) -> dict[str, str]:
    """Let a process work with the rights of its own role, which the tests' login is a member of."""
    url = env.get("SLOTWIRE_DATABASE_URL", "")
    if process not in PROCESSES or "://slotwire_app:" not in url:
        return env
    return {**env, "SLOTWIRE_DATABASE_URL": f"{url}{'&' if '?' in url else '?'}role=slotwire_{process}"}


def _forked(arguments: tuple[str, ...], env: dict[str, str], version: Path | None) -> Forked:
    env = with_own_role(arguments[0], env)
    if arguments[0] == "agents":  # with them it would begin again, and import everything itself
        env = {name: value for name, value in env.items() if not name.startswith(OF_OTHERS)}
    return Forked(arguments, env, Path.cwd(), 0, 1, 2, version=version)


@asynccontextmanager
async def process(*arguments: str, env: dict[str, str], version: Path | None = None) -> AsyncIterator[Process]:
    """Run a command of ours while the block runs; it is asked to stop at its end, and killed if it does not.

    Args:
        arguments: of `slotwire`.
        env: its settings.
        version: the folder that the code of another version is imported from.
    """
    health_port = free_port()
    env = {**env, "SLOTWIRE_HEALTH__PORT": str(health_port)}
    running = Process(arguments, env, _forked(arguments, env, version), health_port, version)
    try:
        yield running
    finally:
        if running.child.returncode is None:
            running.child.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await running.child.wait()
            except TimeoutError:
                await running.kill()
                raise
