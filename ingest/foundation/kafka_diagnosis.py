"""Why no broker lets us in: aiokafka says only that it could not connect, so each step is tried again by itself.

    name ▶ port ▶ TLS, and whose certificate ▶ SASL and its mechanism ▶ user and password ▶ the brokers' own addresses

Only asked after a failure; it changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from slotwire.ingest.foundation.errors import BrokerUnavailable
from slotwire.ingest.foundation.kafka_connection import connection_options, encrypts, host_of, servers_of
from slotwire.ingest.foundation.network_errors import errnos_of, tls_problem
from slotwire.ingest.foundation.settings import KafkaSettings

PROBE_SECONDS = 3.0
"""How long each step at a broker may take."""
CLOSE_SECONDS = 0.5
"""How long the end of a connection is waited for; one that was never made has none."""
MAX_PROBED = 3
"""The most brokers of the settings that are tried, all at once."""
OLDEST = "3.0"
"""The oldest version of Kafka that is supported."""
_SINCE_OLDEST = 65
"""The API key of DescribeTransactions, which brokers have since 3.0."""
_SERVERS = "SLOTWIRE_KAFKA__BOOTSTRAP_SERVERS"
_PROTOCOL = "SLOTWIRE_KAFKA__SECURITY_PROTOCOL"
_RANK = ("authentication", "tls", "protocol", "advertised", "unreachable", "timeout")


async def why_unreachable(settings: KafkaSettings) -> BrokerUnavailable | None:
    """Say why none of the brokers lets us in; None when one does by now."""
    servers = servers_of(settings)[:MAX_PROBED]
    found = await asyncio.gather(*(_why_not(settings, server) for server in servers))
    problems = [problem for problem in found if problem is not None]
    if len(problems) < len(found):
        return None
    return min(problems, key=lambda problem: _RANK.index(problem.reason))


def require_supported(versions: Mapping[int, Any]) -> None:
    """Refuse a broker that is older than those we support.

    Args:
        versions: what it offers, by API key.

    Raises:
        BrokerUnavailable: it lacks what every supported version has.
    """
    if _SINCE_OLDEST not in versions:
        raise BrokerUnavailable(
            f"the broker is older than Kafka {OLDEST}",
            reason="version",
            remedy="Slotwire works with Kafka 3 and 4: upgrade the brokers.",
        )


async def _why_not(settings: KafkaSettings, server: str) -> BrokerUnavailable | None:
    """Say why a broker does not let us in; None when it does."""
    options = connection_options(settings, client="doctor")
    del options["bootstrap_servers"]
    place = (host_of(server), int(server.rpartition(":")[2]))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            connection = await _connect(place, options)
    except (errors.KafkaError, OSError) as error:
        return await _refused(settings, server, place, error)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            answer = await connection.send(MetadataRequest([]))
    except (errors.KafkaError, OSError):
        if settings.security_protocol.startswith("SASL"):
            return _silent(server)
        other = "SASL_SSL" if encrypts(settings) else "SASL_PLAINTEXT"
        remedy = f"Set {_PROTOCOL}={other} with user, password and mechanism."
        return _problem(server, "asks who we are, and we do not say it", "protocol", remedy)
    finally:
        await _close(connection)
    return await _advertised(server, [(broker[1], broker[2]) for broker in answer.brokers], options)


async def _connect(place: tuple[str, int], options: Mapping[str, Any]) -> AIOKafkaConnection:
    # Shorter than whoever waits for it, so that its end is ours to see to.
    connection = AIOKafkaConnection(*place, request_timeout_ms=int(PROBE_SECONDS * 900), **options)
    try:
        await connection.connect()
    except (errors.KafkaError, TimeoutError):
        await _close(connection)
        raise
    return connection


async def _close(connection: AIOKafkaConnection) -> None:
    """Close a connection, and wait until it is: with TLS, farewells are exchanged first."""
    await asyncio.wait({connection.close()}, timeout=CLOSE_SECONDS)


async def _refused(
    settings: KafkaSettings, server: str, place: tuple[str, int], error: errors.KafkaError | OSError
) -> BrokerUnavailable:
    """Explain a connection that did not come about."""
    if isinstance(error, errors.KafkaError) and not isinstance(error, errors.KafkaConnectionError):
        return _unauthenticated(settings, server, error)
    if isinstance(error, ssl.SSLCertVerificationError):
        message, remedy = tls_problem(error)
        remedy = remedy.format(authority="SLOTWIRE_KAFKA__SSL_CAFILE", address=_SERVERS)
        return _problem(server, message, "tls", remedy, colon=True)
    if isinstance(error, socket.gaierror):
        return _problem(server, "cannot be found by its name", "unreachable", f"Check the host in {_SERVERS}.")
    if errno.ECONNREFUSED in errnos_of(error):
        remedy = f"Check that a broker runs, and the port in {_SERVERS}."
        return _problem(server, "is out of reach: nothing listens there", "unreachable", remedy)
    return await _broken_off(settings, server, place, error)


async def _broken_off(
    settings: KafkaSettings, server: str, place: tuple[str, int], error: errors.KafkaError | OSError
) -> BrokerUnavailable:
    """Explain a connection that came about and was not understood: is one side speaking TLS, and the other not?"""
    speaks_tls = await _speaks_tls(place)
    if encrypts(settings) and speaks_tls is False:
        plain = "SASL_PLAINTEXT" if settings.security_protocol.startswith("SASL") else "PLAINTEXT"
        remedy = f"Name the port with TLS in {_SERVERS}, or set {_PROTOCOL}={plain}."
        return _problem(server, "does not speak TLS at this port", "tls", remedy)
    if not encrypts(settings) and speaks_tls:
        remedy = f"Set {_PROTOCOL}={'SASL_SSL' if settings.security_protocol.startswith('SASL') else 'SSL'}."
        return _problem(server, "speaks TLS at this port, and we do not", "tls", remedy)
    if isinstance(error, ssl.SSLError):
        remedy = "A broker that wants a client certificate gets SLOTWIRE_KAFKA__SSL_CERTFILE and __SSL_KEYFILE."
        return _problem(server, "ended the TLS handshake", "tls", remedy)
    return _silent(server)


def _unauthenticated(settings: KafkaSettings, server: str, error: errors.KafkaError) -> BrokerUnavailable:
    """Explain why the broker does not believe who we are."""
    if settings.sasl_mechanism == "OAUTHBEARER" and not isinstance(error, errors.BrokerResponseError):
        return _problem(server, "refuses our token", "authentication", "Check SLOTWIRE_KAFKA__TOKEN_PROVIDER.")
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        message = f"does not offer the mechanism {settings.sasl_mechanism}"
        return _problem(server, message, "authentication", "Set SLOTWIRE_KAFKA__SASL_MECHANISM to one that it offers.")
    if isinstance(error, errors.IllegalSaslStateError):
        remedy = f"Set {_PROTOCOL}={'SSL' if encrypts(settings) else 'PLAINTEXT'}, or name the port with SASL."
        return _problem(server, "does not ask who we are at this port", "protocol", remedy)
    remedy = (
        "Check SLOTWIRE_KAFKA__SASL_USERNAME and SLOTWIRE_KAFKA__SASL_PASSWORD,\n"
        f"and that the user has a password for the mechanism {settings.sasl_mechanism}."
    )
    return _problem(server, "refuses the user or the password", "authentication", remedy)


async def _speaks_tls(place: tuple[str, int]) -> bool | None:
    """Whether something at a port shakes hands for TLS, whoever it is; None when it says nothing at all."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(*place, ssl=anybody, server_hostname="")
    except TimeoutError:
        return None
    except ssl.SSLError as error:
        return "CERTIFICATE" in str(error.reason)  # it asks for ours
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _advertised(
    server: str, brokers: Sequence[tuple[str, int]], options: Mapping[str, Any]
) -> BrokerUnavailable | None:
    """Try the addresses that the broker gives for the rest of the cluster; all work goes there."""
    for host, port in brokers[:MAX_PROBED]:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await _close(await _connect((host, port), options))
        except (errors.KafkaError, OSError):
            message = f"answers, and says that a broker is at {host}:{port}, where none answers us"
            remedy = "Check that this broker runs, and advertised.listeners in its configuration."
            return _problem(server, message, "advertised", remedy)
    return None


def _silent(server: str) -> BrokerUnavailable:
    remedy = f"Check that a broker runs there and that no firewall is between; it may also want another {_PROTOCOL}."
    return _problem(server, "did not answer in time, or hung up", "timeout", remedy)


def _problem(server: str, message: str, reason: str, remedy: str, *, colon: bool = False) -> BrokerUnavailable:
    text = f"Kafka at {server}{':' if colon else ''} {message}"
    return BrokerUnavailable(text, reason=reason, remedy=remedy)
