"""The command line as a user runs it: arguments in, exit code and both streams out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from slotwire.ingest.foundation.settings import Settings
from tests.support import fork_server
from tests.support.simulated_calendly import AMPLE

SECONDS = 120


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return settings as environment variables."""
    return {
        "SLOTWIRE_DATABASE_URL": settings.database_url.get_secret_value(),
        "SLOTWIRE_PUBLIC_URL": settings.public_url,
        "SLOTWIRE_HTTP__HOOK_KEYS": _joined(settings.http.hook_keys),
        "SLOTWIRE_VAULT__KEYS": _joined(settings.vault.keys),
        "SLOTWIRE_ADMIN__PORT": "0",
        "SLOTWIRE_HEALTH__PORT": "0",
        "SLOTWIRE_CALENDLY__ASSUMED_CALLS_PER_MINUTE": str(AMPLE),
        **more,
    }


def _joined(keys: tuple[SecretStr, ...]) -> str:
    return ",".join(key.get_secret_value() for key in keys)


@dataclass(frozen=True)
class CommandResult:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


async def slotwire(*arguments: str, env: Mapping[str, str], stdin: str | None = None) -> CommandResult:
    """Run `slotwire` to its end in a process of its own, forked by `tests.support.fork_server`."""
    code, out, err = await asyncio.to_thread(fork_server.run, arguments, env, (stdin or "").encode())
    return CommandResult(code, out.decode(), err.decode())


async def shell(line: str, *, env: Mapping[str, str], cwd: Path) -> CommandResult:
    """Run one line of a document in bash, in a folder of the test's own."""
    return await _run(("bash", "-c", line), env=env, cwd=cwd)


async def _run(words: tuple[str, ...], *, env: Mapping[str, str], cwd: Path | None = None) -> CommandResult:
    child = await asyncio.create_subprocess_exec(
        *words,
        env=env,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await child.communicate(b"")
    finally:
        if child.returncode is None:
            child.kill()
    return CommandResult(child.returncode or 0, out.decode(), err.decode())
