"""The address of Postgres is judged before anything connects."""

from __future__ import annotations

import pytest

from slotwire.ingest.errors import ConfigurationError
from slotwire.ingest.foundation.postgres_address import MAX_HOSTS, DatabaseAddress, parse_address
from slotwire.ingest.foundation.settings import DatabaseSettings


def parsed(dsn: str, *, allow_plaintext: bool = True) -> DatabaseAddress:
    """Parse an address of the setting X."""
    return parse_address(dsn, setting="X", settings=DatabaseSettings(allow_plaintext=allow_plaintext))


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u:p@a/d", [("a", 5432)]),
        ("postgres://a:6000/d", [("a", 6000)]),
        (
            "postgresql://u:p@a,b:6001,[::1]:6002,[fe80::1]/d",
            [("a", 5432), ("b", 6001), ("::1", 6002), ("fe80::1", 5432)],
        ),
        ("postgresql://u:p%40q@a/d?sslmode=require", [("a", 5432)]),
        ("postgresql:///d?host=/run/postgresql", [("/run/postgresql", 5432)]),
        ("postgresql://%2Frun%2Fpostgresql:6000/d", [("/run/postgresql", 6000)]),
        ("postgresql:///d?host=a,b&port=6000,6001", [("a", 6000), ("b", 6001)]),
        ("postgresql:///d?host=a,b&port=6000", [("a", 6000), ("b", 6000)]),
    ],
)
def test_hosts_are_read_as_libpq_reads_them(dsn: str, hosts: list[tuple[str, int]]) -> None:
    """One host or several, with ports of their own or one for all, sockets and IPv6 among them."""
    assert [tuple(host) for host in parsed(dsn).hosts] == hosts


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("", "X is not set"),
        ("mysql://a/d", "X cannot be read"),
        ("postgresql://u:p@/d", "names no host"),
        ("postgresql:///d", "names no host"),
        ("postgresql://u:p@a,,b/d", "names no host"),
        ("postgresql://u:p@q@a/d", "written %40"),
        ("postgresql://a:port/d", "port is no port"),
        ("postgresql://a:0/d", "0 is no port"),
        ("postgresql://a:65536/d", "65536 is no port"),
        ("postgresql://a/d?sslmode", "X cannot be read"),
        ("postgresql://a/d?sslmode=", "X cannot be read"),
        ("postgresql://a/d?sslmode=verify-full&sslrootcert=", "X cannot be read"),
        ("postgresql://a/d?sslmode=verify", "sslmode is none of disable"),
        ("postgresql://[::1/d", "X cannot be read"),
    ],
)
def test_an_address_that_cannot_work_is_refused(dsn: str, words: str) -> None:
    """The setting is named with what is wrong in it, and neither user nor password is shown."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        parsed(dsn)
    assert caught.value.remedy
    assert "u:p" not in caught.value.message + caught.value.remedy


def test_the_last_of_two_values_counts() -> None:
    """A parameter that is there twice means what asyncpg takes it for, in every judgement."""
    found = parsed("postgresql://db.example.com/d?sslmode=disable&sslmode=require", allow_plaintext=False)
    assert (found.tls, found.plaintext_hosts) == ("require", ())
    with pytest.raises(ConfigurationError, match="does not demand TLS"):
        parsed("postgresql://db.example.com/d?sslmode=require&sslmode=disable", allow_plaintext=False)


def test_as_many_hosts_as_the_time_allows() -> None:
    """The most hosts are taken, and one more is refused with the number."""
    assert len(parsed(f"postgresql://{','.join(['a'] * MAX_HOSTS)}/d").hosts) == MAX_HOSTS
    with pytest.raises(ConfigurationError, match=f"names {MAX_HOSTS + 1} hosts"):
        parsed(f"postgresql://{','.join(['a'] * (MAX_HOSTS + 1))}/d")


@pytest.mark.parametrize("mode", ["", "?sslmode=disable", "?sslmode=allow", "?sslmode=prefer"])
def test_tls_is_demanded_towards_other_machines(mode: str) -> None:
    """Without a mode that insists on TLS, an address beyond this machine is refused, unless a setting allows it."""
    for hosts in ("db.example.com", "127.0.0.1,db.example.com", "10.0.0.1", "127.example.com"):
        with pytest.raises(ConfigurationError, match="does not demand TLS") as caught:
            parsed(f"postgresql://{hosts}/d{mode}", allow_plaintext=False)
        assert "sslmode=verify-full" in caught.value.remedy
        assert "SLOTWIRE_DATABASE__ALLOW_PLAINTEXT" in caught.value.remedy
        assert parsed(f"postgresql://{hosts}/d{mode}").plaintext_hosts


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://127.0.0.1,localhost,[::1],127.8.8.8/d",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://db.example.com/d?sslmode=require",
        "postgresql://db.example.com/d?sslmode=verify-ca",
        "postgresql://db.example.com/d?sslmode=verify-full",
    ],
)
def test_what_stays_here_or_is_encrypted_is_taken(dsn: str) -> None:
    """Loopback, `localhost`, sockets, and modes that insist on TLS need no permission."""
    assert parsed(dsn, allow_plaintext=False).plaintext_hosts == ()


def test_encryption_that_trusts_anybody_is_seen() -> None:
    """`require` without an authority believes whoever answers; the other modes do not, and this machine is exempt."""
    assert parsed("postgresql://db.example.com/d?sslmode=require").trusts_anybody
    assert not parsed("postgresql://db.example.com/d?sslmode=verify-ca").trusts_anybody
    assert not parsed("postgresql://localhost/d?sslmode=require").trusts_anybody


def test_the_settings_of_tls_count_where_the_address_is_silent() -> None:
    """`verify-full` by a setting is TLS, too, with the system's authorities."""
    settings = DatabaseSettings(ssl_mode="verify-full")
    address = parse_address("postgresql://db.example.com/d", setting="X", settings=settings)
    assert address.plaintext_hosts == ()
    assert not isinstance(address.ssl, str)
    assert address.ssl.check_hostname
