"""How to reach Kafka: addresses, protocol and credentials of the settings, judged before anything connects."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.kafka_token import token_source
from slotwire.ingest.foundation.settings import KafkaSettings
from slotwire.ingest.foundation.settings_base import is_loopback


def connection_options(settings: KafkaSettings, *, client: str) -> dict[str, Any]:
    """Return the options with which aiokafka's producers, consumers and clients reach the broker.

    Args:
        settings: the broker's address, protocol and credentials.
        client: a name for the broker's logs and quotas; it follows `slotwire-`.

    Raises:
        ConfigurationError: no broker is set, one is on another machine and TLS is not asked for, or a certificate or
            key cannot be read.
    """
    if not settings.bootstrap_servers:
        raise ConfigurationError(
            "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS is not set",
            remedy="Set it to host:port; separate several with commas. `slotwire local` runs a broker of its own.",
        )
    servers = servers_of(settings)
    _require_tls(settings, servers)
    options: dict[str, Any] = {
        "bootstrap_servers": servers,
        "client_id": f"slotwire-{client}",
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in {"SSL", "SASL_SSL"}:
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options |= _sasl(settings)
    return options


def _sasl(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"sasl_mechanism": settings.sasl_mechanism}
    if settings.sasl_mechanism == "OAUTHBEARER" and settings.token_provider is not None:
        options["sasl_oauth_token_provider"] = token_source(settings.token_provider)
    elif settings.sasl_password is not None:
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            f"the certificates for Kafka cannot be read: {error.strerror or 'not PEM'}",
            remedy="Check SLOTWIRE_KAFKA__SSL_CAFILE, SLOTWIRE_KAFKA__SSL_CERTFILE and SLOTWIRE_KAFKA__SSL_KEYFILE.",
        ) from error
    return context


def servers_of(settings: KafkaSettings) -> list[str]:
    """Return the brokers of the settings, each `host:port`."""
    return [part.strip() for part in settings.bootstrap_servers.split(",") if part.strip()]


def encrypts(settings: KafkaSettings) -> bool:
    """Whether the protocol is one with TLS."""
    return settings.security_protocol in {"SSL", "SASL_SSL"}


def plaintext_servers(settings: KafkaSettings) -> list[str]:
    """Return the brokers on other machines that are reached without TLS."""
    return [] if encrypts(settings) else [server for server in servers_of(settings) if not is_loopback(host_of(server))]


def host_of(server: str) -> str:
    """Return the host of `host:port`; an IPv6 address may be in brackets."""
    return server.rpartition(":")[0].strip("[]") or server


def _require_tls(settings: KafkaSettings, servers: Sequence[str]) -> None:
    for server in servers:
        if not server.rpartition(":")[2].isdigit():
            raise ConfigurationError(
                f"SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS cannot be read: {server} names no port",
                remedy="Set it to host:port; separate several with commas.",
            )
    if (plain := plaintext_servers(settings)) and not settings.allow_plaintext:
        raise ConfigurationError(
            f"SLOTWIRE_KAFKA__SECURITY_PROTOCOL={settings.security_protocol} has no TLS, and {plain[0]} is not on this"
            " machine",
            remedy="Set it to SASL_SSL or SSL. Where nobody else can listen: SLOTWIRE_KAFKA__ALLOW_PLAINTEXT=true.",
        )
