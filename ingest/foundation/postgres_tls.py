"""TLS to Postgres: what the database's address does not say about it, the settings do.

The address comes first, parameter by parameter (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`), so one process's
address can differ from what all processes share. asyncpg then does what libpq would, with one difference: to verify a
server without naming an authority means the system's authorities, as for Kafka, instead of a file in a home folder.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.settings import DatabaseSettings

_SETTINGS = {"sslmode": "ssl_mode", "sslrootcert": "ssl_cafile", "sslcert": "ssl_certfile", "sslkey": "ssl_keyfile"}
"""Parameters of an address, and the settings that stand in for them."""
_VERIFYING = frozenset({"verify-ca", "verify-full"})
_REMEDY = (
    "Check SLOTWIRE_DATABASE__SSL_CAFILE, __SSL_CERTFILE and __SSL_KEYFILE, and sslrootcert, sslcert and sslkey\n"
    "  in the address, which come first."
)


def complete_tls(
    said: Mapping[str, str], settings: DatabaseSettings
) -> tuple[Mapping[str, str], ssl.SSLContext | None]:
    """Complete an address's parameters by the settings.

    Args:
        said: the parameters of the address, by name.
        settings: what applies where the address is silent. An authority without a mode means `verify-full`.

    Returns:
        What to add to the parameters, and the TLS context to use instead of what they say; None for none.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it should be. Its name is shown, the address not.
    """
    wanted = dict(said)
    for name, setting in _SETTINGS.items():
        if (value := getattr(settings, setting)) is not None:
            wanted.setdefault(name, value)
    if "sslrootcert" in wanted:
        wanted.setdefault("sslmode", "verify-full")
    _require_readable(wanted)
    if wanted.get("sslmode") in _VERIFYING and "sslrootcert" not in wanted:
        return {}, _by_the_systems_authorities(wanted)
    return {name: wanted[name] for name in _SETTINGS if name in wanted and name not in said}, None


def _by_the_systems_authorities(wanted: dict[str, str]) -> ssl.SSLContext:
    if "sslcrl" in wanted:
        raise ConfigurationError(
            "the database's address has sslcrl and names no authority",
            remedy="Name it too, with sslrootcert in the address or SLOTWIRE_DATABASE__SSL_CAFILE.",
        )
    context = ssl.create_default_context()
    context.check_hostname = wanted["sslmode"] == "verify-full"
    context.set_alpn_protocols(["postgresql"])
    if "sslcert" in wanted:
        password = wanted.get("sslpassword", "")
        context.load_cert_chain(wanted["sslcert"], wanted.get("sslkey"), password=lambda: password)
    return context


def _require_readable(wanted: dict[str, str]) -> None:
    """Refuse at the start files that would fail every connection, as if the server were out of reach."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    password = wanted.get("sslpassword", "")
    name = "sslrootcert"
    try:
        if name in wanted:
            context.load_verify_locations(cafile=wanted[name])
        name = "sslcert"
        if name in wanted:
            Path(wanted[name]).open("rb").close()
            name = "sslkey" if "sslkey" in wanted else name
            context.load_cert_chain(wanted["sslcert"], wanted.get("sslkey"), password=lambda: password)
    except OSError as error:  # ssl.SSLError is one
        why = "not what it should be" if isinstance(error, ssl.SSLError) else (error.strerror or "unreadable").lower()
        raise ConfigurationError(f"Postgres' TLS file {wanted[name]} ({name}): {why}", remedy=_REMEDY) from None
