"""TLS to Postgres: the embedded server behind a front that takes encrypted connections only."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from slotwire.ingest.errors import ConfigurationError, DatabaseUnavailable
from slotwire.ingest.foundation.migrate_settings import MigrateSettings
from slotwire.ingest.foundation.postgres import connect, create_pool
from slotwire.ingest.foundation.postgres_address import DatabaseAddress, parse_address
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.local.databases import Database
from tests.support.certificates import Authority
from tests.support.tls_front import TlsFront, tls_front

CLIENT = "serve.example.com"


@dataclass(frozen=True)
class Encrypted:
    """The server.

    Attributes:
        url: its address.
        front: what stands before it.
        files: `ca.crt`, `other.crt` (an authority that signed nothing here), `tls.crt`, `tls.key`.
    """

    url: str
    front: TlsFront
    files: Path

    def settings(self, **changes: str) -> DatabaseSettings:
        """Settings whose files are named as in `files`."""
        paths = {name: str(self.files / value) if name != "ssl_mode" else value for name, value in changes.items()}
        return DatabaseSettings.model_validate(paths)

    async def is_used(self, settings: DatabaseSettings, *, query: str = "") -> bool:
        """Connect as our processes do, with more in the address, and say whether it was a session of TLS."""
        before = len(self.front.sessions)
        connection = await connect(self.url + query, settings, application="test")
        try:
            assert await connection.fetchval("SELECT current_user") == "slotwire_serve"
        finally:
            await connection.close()
        return len(self.front.sessions) == before + 1


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Certificates of a server and of a client, and their authority's."""
    authority = Authority()
    client, server = authority.issue(CLIENT), authority.issue("db.example.com", address="127.0.0.1")
    mine = {"ca.crt": authority.pem, "other.crt": Authority("other.example.com").pem}
    mine |= {"tls.crt": client.certificate, "tls.key": client.key, "server.pem": server.certificate + server.key}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
async def encrypted(database: Database, files: Path) -> AsyncIterator[Encrypted]:
    """The server behind a front that lets in everybody who encrypts."""
    async with tls_front(urlsplit(database.owner_url).port or 0, files / "server.pem") as front:
        yield Encrypted(behind(database, front), front, files)


@pytest.fixture
async def strict(database: Database, files: Path) -> AsyncIterator[Encrypted]:
    """The server behind a front that asks for a certificate of the authority."""
    port = urlsplit(database.owner_url).port or 0
    async with tls_front(port, files / "server.pem", clients=files / "ca.crt") as front:
        yield Encrypted(behind(database, front), front, files)


def behind(database: Database, front: TlsFront) -> str:
    """Write the address of `serve`'s login through a front."""
    url = urlsplit(database.url_of["serve"])
    return url._replace(netloc=url.netloc.replace(f":{url.port}", f":{front.port}")).geturl()


async def test_the_settings_verify_the_server(encrypted: Encrypted) -> None:
    """An authority in the settings alone means a checked certificate and host, in a connection and in a pool."""
    settings = encrypted.settings(ssl_cafile="ca.crt")
    assert await encrypted.is_used(settings)
    assert await encrypted.is_used(encrypted.settings(ssl_cafile="ca.crt", ssl_mode="verify-full"))
    async with create_pool(encrypted.url, settings, application="test") as pool:
        assert await pool.fetchval("SELECT current_user") == "slotwire_serve"
    assert (encrypted.front.sessions, encrypted.front.refused) == ([None] * 3, 0)


async def test_the_address_comes_first(encrypted: Encrypted) -> None:
    """A parameter of the address stands, whatever the settings say of it; the rest comes from the settings."""
    wrong = encrypted.settings(ssl_cafile="other.crt", ssl_mode="verify-full")
    assert await encrypted.is_used(wrong, query=f"?sslrootcert={encrypted.files / 'ca.crt'}")
    assert await encrypted.is_used(encrypted.settings(ssl_mode="disable"), query="?sslmode=require")
    assert await encrypted.is_used(encrypted.settings(ssl_cafile="ca.crt"), query="?sslmode=verify-full")
    with pytest.raises(DatabaseUnavailable):
        await encrypted.is_used(encrypted.settings(ssl_cafile="ca.crt"), query="?sslmode=disable")
    assert encrypted.front.refused == 1


@pytest.mark.parametrize("form", ["settings", "address"])
async def test_another_authority_is_no_silence(encrypted: Encrypted, form: str) -> None:
    """A server that another authority signed is refused, and the certificate is named as the reason."""
    settings = encrypted.settings(ssl_cafile="other.crt") if form == "settings" else DatabaseSettings()
    said = f"?sslmode=verify-full&sslrootcert={encrypted.files / 'other.crt'}" if form == "address" else ""
    with pytest.raises(DatabaseUnavailable, match="certificate is signed by an authority") as refused:
        await encrypted.is_used(settings, query=said)
    assert refused.value.reason == "tls"
    assert "SLOTWIRE_DATABASE__SSL_CAFILE" in refused.value.remedy


async def test_verify_full_without_an_authority_takes_the_systems(encrypted: Encrypted) -> None:
    """`sslmode=verify-full` alone is a valid address: the system's authorities are asked, and here they know nobody."""
    with pytest.raises(DatabaseUnavailable) as refused:
        await encrypted.is_used(DatabaseSettings(), query="?sslmode=verify-full")
    assert refused.value.reason == "tls"
    context = addressed("postgresql://a@db.example.com/b?sslmode=verify-full").context
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = addressed("postgresql://a@db.example.com/b", ssl_mode="verify-ca").context
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)
    with pytest.raises(ConfigurationError, match="sslcrl and names no authority"):
        addressed("postgresql://a@db.example.com/b?sslmode=verify-full&sslcrl=/crl.pem")


async def test_our_certificate_is_shown(strict: Encrypted) -> None:
    """Where the server asks for a certificate, the settings' one gets in, and without one nobody does."""
    mine = strict.settings(ssl_cafile="ca.crt", ssl_certfile="tls.crt", ssl_keyfile="tls.key")
    assert await strict.is_used(mine)
    assert await strict.is_used(MigrateSettings().limits(mine)), "and for migrate"
    assert strict.front.sessions == [CLIENT] * 2
    with pytest.raises(DatabaseUnavailable):
        await strict.is_used(strict.settings(ssl_cafile="ca.crt"))
    assert (len(strict.front.sessions), strict.front.refused) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ssl_cafile": "nowhere.crt"}, r"nowhere.crt \(sslrootcert\): no such file"),
        ({"ssl_cafile": "tls.key"}, r"tls.key \(sslrootcert\): not what it should be"),
        ({"ssl_certfile": "nowhere.crt"}, r"nowhere.crt \(sslcert\): no such file"),
        ({"ssl_certfile": "tls.crt", "ssl_keyfile": "nowhere.key"}, r"nowhere.key \(sslkey\): no such file"),
        ({"ssl_certfile": "tls.crt", "ssl_keyfile": "ca.crt"}, r"ca.crt \(sslkey\): not what it should be"),
    ],
)
async def test_a_bad_file_is_named_at_the_start(encrypted: Encrypted, changes: dict[str, str], named: str) -> None:
    """A file that is missing or is something else is an error of the settings that shows its name, not an outage."""
    settings = encrypted.settings(**changes)
    with pytest.raises(ConfigurationError, match=named) as refused:
        async with create_pool(encrypted.url, settings, application="test"):
            pass
    assert "SLOTWIRE_DATABASE__SSL_CAFILE" in refused.value.remedy
    with pytest.raises(ConfigurationError, match=named):
        await encrypted.is_used(settings)


def addressed(dsn: str, **settings: Any) -> DatabaseAddress:
    """Read an address under settings that allow plain text."""
    return parse_address(dsn, setting="X", settings=DatabaseSettings(allow_plaintext=True, **settings))


def test_an_address_without_tls_stays_as_it_is() -> None:
    """Nothing is added that the settings do not say, a path keeps its special characters, and a fragment is behind."""
    plain = "postgresql://a:b@db1.example.com:5433,db2.example.com/c"
    assert (addressed(plain).dsn, addressed(plain).context) == (plain, None)
    for given, made in (
        (f"{plain}?sslmode=disable", f"{plain}?sslmode=disable"),
        (plain, f"{plain}?sslmode=require"),
        (f"{plain}?application_name=x%20y", f"{plain}?application_name=x%20y&sslmode=require"),
        (f"{plain}#part", f"{plain}?sslmode=require#part"),
    ):
        assert addressed(given, ssl_mode="require").dsn == made
