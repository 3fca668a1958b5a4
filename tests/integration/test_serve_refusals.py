"""What `slotwire serve` says when it cannot start: one or two lines, no stack trace, exit code 1."""

from __future__ import annotations

import socket

import pytest

from slotwire.ingest.local.databases import Database
from tests.support.children import environment
from tests.support.command import slotwire
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
