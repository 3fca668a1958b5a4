"""Connections to receivers: looks the name up, judges what it means, connects to exactly that.

The one file that knows the client library, and the one that catches its exceptions.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError

from slotwire.ingest.foundation.errors import ConfigurationError, OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.network_errors import tls_problem
from slotwire.ingest.foundation.outgoing.addresses import AddressRules
from slotwire.ingest.foundation.outgoing.target import Target
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Looks a name up: every address that it means. Raises OSError where it means none."""

CONNECT_SECONDS = 5.0
KEEPALIVE_SECONDS = 15.0
"""How long a connection stays open without a request."""
MAX_CONNECTIONS = 100
"""Of one process, to all receivers."""
MAX_ANSWER_BYTES = 65_536
"""What is read of an answer's body; the rest is left, and the connection closed."""
MAX_HEAD_BYTES = 32_768
"""Octets of an answer before its body: its header, and answers in between (1xx). Kept to within one read."""
LOOKUPS_AT_ONCE = 16
"""Names that are looked up at once. A receiver's name server may be slow on purpose, and a look-up cannot be ended:
they have threads of their own, and of one name one runs at a time, so that nobody else waits."""
OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent", "expect"}
)
"""Headers that are made here."""

_USER_AGENT = f"slotwire/{version('slotwire')}"
_CHUNK_BYTES = 8_192
_CA_FILE = "SLOTWIRE_OUTGOING__CA_FILE"
_NETWORKS = "SLOTWIRE_OUTGOING__ALLOW_NETWORKS"
_HEAD_OF_SUCCESS = re.compile(
    rb"(?:HTTP/1\.[01] 1\d\d[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n)*HTTP/1\.[01] (2\d\d)[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n"
)
"""The whole header of a success, after any answers in between."""


class _HeadTooLong(aiohttp.ClientError):
    """More than `MAX_HEAD_BYTES` came before a body."""


class _SuccessUnreadable(aiohttp.ClientError):
    """A success, followed by what HTTP does not have there, such as a body after 204."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


_FAILURES: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((TimeoutError,), "did not answer in time", "timeout"),
    ((aiohttp.ClientConnectorDNSError,), "is a name that means no address", "name_unknown"),
    ((ConnectionRefusedError,), "refuses connections: nobody listens there", "connection_refused"),
    (
        (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError),
        "closed the connection before it answered",
        "disconnected",
    ),
    ((_HeadTooLong,), f"sends more than {MAX_HEAD_BYTES} octets before an answer's body", "answer_unreadable"),
    ((OSError,), "cannot be reached", "unreachable"),
)
"""What is said of a failure, and its reason; the first that fits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered.

    Attributes:
        status: of HTTP.
        body: its first `MAX_ANSWER_BYTES`, as they came; empty where those of a success could not be read.
        cut: whether there was more, or it could not be read.
        retry_after: the seconds that it asks to wait; None where it says nothing that can be read.
    """

    status: int
    body: bytes = field(repr=False)
    cut: bool = False
    retry_after: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300


class _AddressRefused(OSError):
    """An address that may not be connected to; an OSError, so that the library hands it on."""


class _JudgedNames(AbstractResolver):
    """Looks names up; where one of the addresses may not be connected to, none is."""

    def __init__(self, resolve: Resolve, rules: AddressRules) -> None:
        self._resolve = resolve
        self._rules = rules

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family  # both are judged, whichever is connected to
        found = await self._resolve(host)
        if not found:
            raise OSError(errno.ENOENT, "the name means no address")
        for each in found:
            _require(self._rules, each)
        return [
            ResolveResult(hostname=host, host=each, port=port, family=_family(each), proto=0, flags=0)
            for each in dict.fromkeys(found)
        ]

    async def close(self) -> None:
        """Hold nothing."""


class _BoundedReplies(ResponseHandler):
    """One connection, with a limit on the octets before a body; aiohttp has one for each line and their number.

    Of aiohttp's `ResponseHandler` (`client_proto.py` of 3.14.5) it relies on this: `set_response_params` begins a
    request, `data_received` gets every octet, `feed_data` every header, and `set_exception` what is wrong with them.
    `tests/integration/test_outgoing.py` fails when a version of aiohttp does otherwise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._answered, self._octets, self._head = False, 0, bytearray()

    def set_response_params(self, **options: Any) -> None:
        """Begin a request."""
        self._answered, self._octets, self._head = False, 0, bytearray()
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is too much."""
        if not self._answered:
            self._octets += len(data)
            self._head += data[: max(0, MAX_HEAD_BYTES - len(self._head))]
        super().data_received(data)
        if not self._answered and self._octets > MAX_HEAD_BYTES:
            self._refuse()

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Take a header that was parsed."""
        message, _ = data
        if sum(len(name) + len(value) for name, value in message.raw_headers) > MAX_HEAD_BYTES:
            self._refuse()
            return
        self._answered = self._answered or message.code >= HTTPStatus.OK
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Note what is wrong; whoever has said 2xx has taken it all the same."""
        if isinstance(exc, HttpProcessingError) and not self._answered:
            found = _HEAD_OF_SUCCESS.match(self._head)
            exc = exc if found is None else _SuccessUnreadable(int(found[1]))
        super().set_exception(exc, *cause)

    def _refuse(self) -> None:
        self.set_exception(_HeadTooLong())
        if self.transport is not None:
            self.transport.close()


class ReceiverConnections:
    """Connections of one process to receivers. Opened with the first request."""

    def __init__(self, settings: OutgoingSettings, resolve: Resolve | None = None) -> None:
        """Take the settings.

        Args:
            settings: who may be connected to.
            resolve: looks names up; None: as the system does.
        """
        self._settings = settings
        self._rules = AddressRules.of(settings)
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="receivers")
        self._resolve = resolve or self._look_up
        self._looking_up: dict[str, asyncio.Future[list[str]]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def post(self, target: Target, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        """Make one POST.

        Raises:
            OutgoingRefused: the name means an address that may not be connected to (`address`).
            OutgoingFailed: no answer came, or no whole one that is no success; the receiver may have got the request.
            ConfigurationError: the file of the CA cannot be read.
            ValueError: a header is one that is made here, or would be two.
        """
        if not OURS.isdisjoint(name.lower() for name in headers):
            raise ValueError(f"these headers are made here: {', '.join(sorted(OURS))}")
        session = self._opened()
        status = 0
        try:
            async with (
                asyncio.timeout(seconds),
                session.post(target.url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
                received, cut = await _bounded(response)
                return Answer(status, received, cut, _retry_after(response.headers))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            unread = Answer(error.status if isinstance(error, _SuccessUnreadable) else status, b"", cut=True)
            if unread.is_success:
                return unread  # it was taken, and would be taken again
            raise _translated(error, target.host) from None

    async def aclose(self) -> None:
        """Close every connection. A look-up that runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_JudgedNames(self._resolve, self._rules),
                use_dns_cache=False,  # each connection is judged by what the name means then
                socket_factory=self._judged_socket,
                ssl=_tls(self._settings.ca_file),
                limit=MAX_CONNECTIONS,
                keepalive_timeout=KEEPALIVE_SECONDS,
            )
            loop = asyncio.get_running_loop()
            connector._factory = partial(_BoundedReplies, loop=loop)  # type: ignore[assignment]  # noqa: SLF001 - a connection of ours, and no other way
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                auto_decompress=False,
                trust_env=False,  # a proxy would look names up itself
            )
        return self._session

    def _judged_socket(self, info: tuple[int, int, int, str, tuple[str | int, ...]]) -> socket.socket:
        """Make the socket for an address; the last place before a connection, also for one that is no name."""
        family, kind, proto, _, address = info
        _require(self._rules, str(address[0]))
        return socket.socket(family=family, type=kind, proto=proto)

    async def _look_up(self, host: str) -> Sequence[str]:
        """Ask the system; whoever asks for the same name while it does gets the same answer."""
        asked = self._looking_up.get(host)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, _addresses_of, host)
            self._looking_up[host] = asked
            asked.add_done_callback(lambda ended: self._looked_up(host, ended))
        return await asyncio.shield(asked)

    def _looked_up(self, host: str, ended: asyncio.Future[list[str]]) -> None:
        del self._looking_up[host]
        if not ended.cancelled():
            ended.exception()  # whoever asked may have gone


def _addresses_of(host: str) -> list[str]:
    return [str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _require(rules: AddressRules, address: str) -> None:
    why = rules.why_not(address)
    if why is not None:
        raise _AddressRefused(errno.EACCES, why)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the CA of receivers cannot be read: {(error.strerror or 'no certificate in it').lower()}",
            remedy=f"Name a readable file of PEM certificates with {_CA_FILE}, or unset it.",
        ) from None


async def _bounded(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    received = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        received += chunk
        if len(received) > MAX_ANSWER_BYTES:
            response.close()
            return bytes(received[:MAX_ANSWER_BYTES]), True
    return bytes(received), False


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After; of a date those that it is after the answer's own."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(said) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds())
    return None


def _translated(error: Exception, host: str) -> OutgoingRefused | OutgoingFailed:
    """Say what went wrong, with the host and no more of the address, which may be a secret."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, _AddressRefused):
        return OutgoingRefused(
            f"{host} means an address that may not be connected to: it is {cause.strerror}",
            reason="address",
            remedy=f"Use a receiver on the public network, or allow its private network with {_NETWORKS}.",
        )
    if isinstance(cause, ssl.SSLError):
        what, remedy = tls_problem(cause)
        return OutgoingFailed(
            f"no TLS with {host}: {what}",
            reason="tls_error",
            remedy=remedy.format(authority=_CA_FILE, address="the receiver's address"),
        )
    for kinds, said, reason in _FAILURES:
        if isinstance(error, kinds) or isinstance(cause, kinds):
            return OutgoingFailed(f"{host} {said}", reason=reason)
    return OutgoingFailed(f"{host} does not answer as HTTP has it", reason="answer_unreadable")
