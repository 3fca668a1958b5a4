"""The address of Postgres, read and judged before anything connects: which hosts, and how they are encrypted.

An address that cannot work, or would send passwords and bookings over a network in the clear, is refused at the start.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.local_stack import loading
from slotwire.ingest.foundation.postgres_tls import complete_tls
from slotwire.ingest.foundation.settings import DatabaseSettings
from slotwire.ingest.foundation.settings_base import is_loopback

FORM = "postgresql://user:password@host/database"
MAX_HOSTS = 8
"""The most hosts in an address: all are tried within the time that a delivery may wait for its answer."""
_PORT = 5432
TlsMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_MODES: tuple[TlsMode, ...] = get_args(TlsMode)
_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<place>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?"
)
_ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})


class Host(NamedTuple):
    """One place where Postgres may be.

    Attributes:
        name: a name, an IP address, or the folder of a Unix socket.
        port: its port.
    """

    name: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether nothing leaves this machine: judged by what is written, since what a name means can change."""
        return self.name.startswith("/") or is_loopback(self.name)

    def __str__(self) -> str:
        return f"{self.name if ':' not in self.name else f'[{self.name}]'}:{self.port}"


@dataclass(frozen=True)
class DatabaseAddress:
    """An address that was read.

    Attributes:
        setting: the variable that it comes from.
        dsn: as it was given; it holds the password.
        hosts: at least one, in the order in which they are tried.
        parameters: what follows the question mark, by name.
        context: for TLS, where the system's authorities are trusted; None where the parameters say everything.
    """

    setting: str
    dsn: str
    hosts: tuple[Host, ...]
    parameters: Mapping[str, str]
    context: ssl.SSLContext | None = None

    @property
    def tls(self) -> TlsMode:
        """The value of `sslmode`; `prefer` if there is none, as everywhere."""
        given = self.parameters.get("sslmode")
        return next((mode for mode in _MODES if mode == given), "prefer")

    @property
    def plaintext_hosts(self) -> tuple[Host, ...]:
        """Hosts of other machines to which a connection may be made without TLS."""
        encrypted = self.context is not None or self.tls in _ENCRYPTED
        return () if encrypted else tuple(host for host in self.hosts if not host.is_local)

    @property
    def trusts_anybody(self) -> bool:
        """Whether it is encrypted, but whoever answers is believed to be the server."""
        unchecked = self.context is None and self.tls == "require" and "sslrootcert" not in self.parameters
        return unchecked and any(not host.is_local for host in self.hosts)

    @property
    def ssl(self) -> ssl.SSLContext | TlsMode:
        """What asyncpg takes as `ssl`."""
        return self.context or self.tls


def parse_address(dsn: str, *, setting: str, settings: DatabaseSettings) -> DatabaseAddress:
    """Read an address.

    Args:
        dsn: the address.
        setting: the variable that it comes from; errors name it.
        settings: what they say of TLS applies where the address is silent.

    Raises:
        ConfigurationError: it is missing or cannot be read, its certificates cannot, or TLS is not demanded.
    """
    if not dsn:
        raise ConfigurationError(f"{setting} is not set", remedy=f"Set it to {FORM}.{loading()}")
    try:
        url = _taken_apart(dsn)
        parameters = _parameters(url)
    except ValueError:
        raise _unreadable(setting) from None
    if url.scheme not in {"postgresql", "postgres"}:
        raise _unreadable(setting)
    hosts = _hosts(url, parameters, setting)
    if parameters.get("sslmode", "prefer") not in _MODES:
        raise _unreadable(setting, f"sslmode is none of {', '.join(_MODES)}")
    added, context = complete_tls(parameters, settings)
    address = DatabaseAddress(setting, _extended(dsn, added), hosts, {**parameters, **added}, context)
    if address.plaintext_hosts and not settings.allow_plaintext:
        raise ConfigurationError(
            f"{setting} does not demand TLS towards {address.plaintext_hosts[0]}, which is not on this machine",
            remedy="Add ?sslmode=verify-full to it, or set SLOTWIRE_DATABASE__SSL_MODE=verify-full for all addresses.\n"
            "Where nobody else can listen: SLOTWIRE_DATABASE__ALLOW_PLAINTEXT=true.",
        )
    return address


def _taken_apart(dsn: str) -> SplitResult:
    """Take an address apart. `urlsplit` of Python before 3.11.4 refuses several hosts of which one is in brackets."""
    found = _ADDRESS.fullmatch(dsn)
    if found is None or found["place"].count("[") != found["place"].count("]"):
        raise ValueError
    return SplitResult(found["scheme"].lower(), found["place"], found["path"], found["query"] or "", "")


def _parameters(url: SplitResult) -> Mapping[str, str]:
    """Read what follows the question mark: of a name that is there twice the last value counts, as for asyncpg."""
    found = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
    if not all(found.values()):
        raise ValueError  # asyncpg would take it for one that is not there
    return found


def _extended(dsn: str, added: Mapping[str, str]) -> str:
    """Add parameters to an address."""
    if not added:
        return dsn
    address, hash_, rest = dsn.partition("#")
    joint = "&" if "?" in address else "?"
    return f"{address}{joint}{urlencode(added, quote_via=quote, safe='')}{hash_}{rest}"


def _hosts(url: SplitResult, parameters: Mapping[str, str], setting: str) -> tuple[Host, ...]:
    """Read the hosts with their ports, as libpq does: in the address itself, or as parameters."""
    _, _, listed = url.netloc.rpartition("@")
    if "@" in url.netloc.removesuffix(f"@{listed}"):
        raise _unreadable(setting, "an @ in the user or the password is written %40")
    names = listed or parameters.get("host", "")
    ports = [] if listed else parameters.get("port", "").split(",")
    hosts = []
    for number, part in enumerate(names.split(",")):
        name, port = _split(part)
        port = port or (ports[number] if number < len(ports) else ports[0] if len(ports) == 1 else "")
        if not name:
            raise _unreadable(setting, "it names no host; the folder of a socket is named by ?host=/run/postgresql")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise _unreadable(setting, f"{port} is no port")
        hosts.append(Host(unquote(name), int(port or _PORT)))
    if len(hosts) > MAX_HOSTS:
        raise _unreadable(setting, f"it names {len(hosts)} hosts, and at most {MAX_HOSTS} are tried")
    return tuple(hosts)


def _split(part: str) -> tuple[str, str]:
    """Split a host from its port; an IPv6 address is in brackets."""
    if part.startswith("["):
        name, _, rest = part[1:].partition("]")
        return name, rest.removeprefix(":")
    if part.startswith("/"):
        return part, ""
    name, _, port = part.partition(":")
    return name, port


def _unreadable(setting: str, why: str = "") -> ConfigurationError:
    return ConfigurationError(f"{setting} cannot be read{f': {why}' if why else ''}", remedy=f"The form is {FORM}.")
