"""What stands between us and Postgres is told apart, with what to do; tests/drills has the same with TLS."""

from __future__ import annotations

import pytest

from slotwire.ingest.errors import ConfigurationError, DatabaseUnavailable, SlotwireError
from slotwire.ingest.foundation.postgres import OWNER_ADDRESS, connect
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from tests.support.command import slotwire
from tests.support.wrong_hosts import answering, forget_names


async def test_a_server_without_tls_is_told(postgres_url: str) -> None:
    """Where TLS is demanded and the server has none, that is said, and how to turn it on."""
    with pytest.raises(DatabaseUnavailable, match="does not offer TLS") as caught:
        await connect(f"{postgres_url}?sslmode=require", DatabaseSettings(), application="test")
    assert (caught.value.reason, "ssl = on" in caught.value.remedy) == ("tls", True)


async def test_a_name_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that no name server knows is told from one that is down."""
    forget_names(monkeypatch)
    with pytest.raises(DatabaseUnavailable, match=r"db\.invalid:5432 cannot be found by its name"):
        await connect("postgresql://u:p@db.invalid/d?sslmode=require", DatabaseSettings(), application="test")


async def test_a_server_that_is_too_old_is_told() -> None:
    """Before 14 a server does not know what a connection asks of it; the versions that do are named."""
    words = 'unrecognized configuration parameter "client_connection_check_interval"'
    async with answering("42704", words) as host:
        with pytest.raises(DatabaseUnavailable, match="older than Postgres 14") as caught:
            await connect(f"postgresql://u:p@{host.place}/d", DatabaseSettings(), application="test")
    assert (caught.value.reason, "Postgres 14 to 18" in caught.value.remedy) == ("version", True)


@pytest.mark.parametrize(
    ("state", "text", "message", "remedy"),
    [
        (
            "28000",
            'no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption',
            "without TLS",
            "ssl",
        ),
        (
            "28000",
            'no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", SSL on',
            "no address like ours",
            "hba",
        ),
        ("28000", "connection requires a valid client certificate", "client certificate", "sslcert"),
        ("28000", 'role "u" is not permitted to log in', "no such role, or it may not log in", "LOGIN"),
        ("42501", 'permission denied for database "d"', "may not connect to this database", "migrate"),
        ("53300", "sorry, too many clients already", "no connection left", "max_connections"),
        ("08P01", "server closed", "was closed", "what stands between"),
    ],
)
async def test_what_a_server_says_is_told_on(state: str, text: str, message: str, remedy: str) -> None:
    """A SQLSTATE with many reasons is told apart by the words beside it, and each has a remedy of its own."""
    async with answering(state, text) as host:
        with pytest.raises(DatabaseUnavailable, match=message) as caught:
            await connect(f"postgresql://u:p@{host.place}/d", DatabaseSettings(), application="test")
    assert (caught.value.reason, remedy in caught.value.remedy) == (state, True)


async def test_the_setting_that_holds_the_address_is_blamed(database: Database) -> None:
    """An address of the owner that cannot be read, or a password of the owner's, is blamed on the owner's setting."""
    wrong: list[tuple[str, type[SlotwireError]]] = [
        ("mysql://a/d", ConfigurationError),
        (database.owner_url.replace("owner:", "owner:wrong"), DatabaseUnavailable),
    ]
    for url, error in wrong:
        with pytest.raises(error) as caught:
            await connect(url, DatabaseSettings(), application="test", setting=OWNER_ADDRESS)
        assert OWNER_ADDRESS in caught.value.message + caught.value.remedy
        assert "SLOTWIRE_DATABASE_URL" not in caught.value.message + caught.value.remedy
    env = {"SLOTWIRE_MIGRATE__DATABASE_URL": "mysql://a/d", "SLOTWIRE_DATABASE_URL": database.runtime_url}
    migrated = await slotwire("migrate", env=env)
    assert migrated.code == 1
    assert "SLOTWIRE_MIGRATE__DATABASE_URL cannot be read" in migrated.stderr
