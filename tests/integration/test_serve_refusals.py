"""What `slotwire serve` says when it cannot start: one or two lines, no stack trace, exit code 1."""

from __future__ import annotations

import asyncio
import shlex
import socket
import sys
from pathlib import Path

import pytest

from slotwire.ingest.local.databases import Database
from tests.support.children import environment
from tests.support.command import shell, slotwire
from tests.support.public_endpoint import settings_for


@pytest.mark.parametrize("variable", ["SLOTWIRE_HTTP__PORT", "SLOTWIRE_HEALTH__PORT"])
async def test_a_port_in_use_is_named_with_its_setting(variable: str, database: Database) -> None:
    """The message names the port and the variable that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"SLOTWIRE_HTTP__PORT": "0", "SLOTWIRE_HEALTH__PORT": "0", variable: port}
        ran = await slotwire("serve", env=environment(settings_for(database), **ports))
    assert ran.code == 1
    assert f"port {port}" in ran.stderr
    assert variable in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SLOTWIRE_DATABASE_URL", ""),
        ("SLOTWIRE_DATABASE_URL", "mysql://nowhere"),
        ("SLOTWIRE_HTTP__HOOK_KEYS", ""),
        ("SLOTWIRE_HTTP__HOOK_KEYS", "short"),
        ("SLOTWIRE_VAULT__KEYS", ""),
        ("SLOTWIRE_VAULT__KEYS", "a:short"),
        ("SLOTWIRE_HTTP__PROT", "80"),
    ],
)
async def test_a_missing_or_weak_setting_is_named(variable: str, value: str, database: Database) -> None:
    """The message names the variable and what to do, and repeats no secret."""
    ports = {"SLOTWIRE_HTTP__PORT": "0", "SLOTWIRE_HEALTH__PORT": "0"}
    ran = await slotwire("serve", env=environment(settings_for(database), **(ports | {variable: value})))
    assert ran.code == 1
    assert variable in ran.stderr
    assert len(ran.stderr.splitlines()) >= 2
    assert "Traceback" not in ran.stderr
    assert "short" not in ran.stderr.replace("too short", "").replace("shorter", "")


SERVE = f"{shlex.quote(sys.executable)} -m slotwire.ingest.cli serve"


async def test_too_few_open_files_are_named_with_what_is_needed(database: Database, tmp_path: Path) -> None:
    """With a hard limit below any use the start is refused, and both numbers are named."""
    ports = {"SLOTWIRE_HTTP__PORT": "0", "SLOTWIRE_HEALTH__PORT": "0"}
    env = environment(settings_for(database), **ports)
    ran = await shell(f"ulimit -n 400; {SERVE}", env=env, cwd=tmp_path)
    assert ran.code == 1
    assert "only 400 files may be open, and 416 are needed" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_a_low_limit_of_open_files_lowers_the_cap(database: Database) -> None:
    """With 1,024 files a warning names the cap that was wanted and the one that fits; a soft limit alone is raised."""
    ports = {"SLOTWIRE_HTTP__PORT": "0", "SLOTWIRE_HEALTH__PORT": "0"}
    env = environment(settings_for(database), **ports)
    for line, expected in ((f"ulimit -n 1024; exec {SERVE}", 1), (f"ulimit -Sn 256; exec {SERVE}", 0)):
        child = await asyncio.create_subprocess_exec("bash", "-c", line, env=env, stderr=asyncio.subprocess.PIPE)
        if child.stderr is None:
            raise AssertionError
        said = b""
        async with asyncio.timeout(120):
            while b'"listening"' not in said:
                said += await child.stderr.readline()
            child.terminate()
            await child.communicate()
        assert said.count(b'"connections_limited"') == expected
        assert (b'"wanted":2000,"allowed":320,"open_files":1024' in said) == bool(expected)
