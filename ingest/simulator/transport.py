"""One signed POST, with the headers and timeouts of Calendly, to loopback addresses only."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.simulator.draws import Draws

# Calendly's timeouts (docs/reference/calendly.md, "Delivery").
CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 65_536
KEEP_ALIVE_SECONDS = 30.0


class NotLoopback(SlotwireError):
    """The simulator was asked to send to an address that is not on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "the simulator sends to loopback addresses only",
            remedy="Use http://127.0.0.1:PORT/…, http://[::1]:PORT/… or http://localhost:PORT/….",
        )


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The outcome of one POST: a status or the short name of an error, and the real time it took, in seconds."""

    status: int | None
    error: str | None
    seconds: float

    @property
    def delivered(self) -> bool:
        """True for 2xx only; a redirect is a failure (docs/reference/calendly.md, "Delivery")."""
        return self.status is not None and 200 <= self.status < 300


def require_loopback(url: str) -> None:
    """Check a callback address without resolving a name.

    Raises:
        NotLoopback: the host is neither `localhost` nor a loopback address.
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        raise NotLoopback from None
    if not is_loopback(host):
        raise NotLoopback


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or a loopback address; no name is resolved."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _loopback_socket(address: aiohttp.abc.AddrInfoType) -> socket.socket:  # type: ignore[name-defined]  # a module of aiohttp without stubs of its own
    # The last check, after any name was resolved: no socket is opened to another machine.
    family, kind, protocol, _, where = address
    if not ipaddress.ip_address(where[0]).is_loopback:
        raise OSError("not a loopback address")
    return socket.socket(family, kind, protocol)


def headers(draws: Draws, signed: str | None) -> dict[str, str]:
    """Return a delivery's headers, as in captures; without a signing key there is no signature.

    Source: docs/reference/calendly.md, "Delivery".
    """
    found = {
        "accept": "*/*",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "user-agent": "Calendly",
        "x-datadog-parent-id": str(int.from_bytes(draws.octets(8))),
        "x-datadog-sampling-priority": "0",
        "x-datadog-tags": f"_dd.p.tid={draws.octets(4).hex()}00000000,_dd.p.dm=-1",
        "x-datadog-trace-id": str(int.from_bytes(draws.octets(8))),
    }
    if signed is not None:
        found["calendly-webhook-signature"] = signed
    return found


class LoopbackTransport:
    """A pool of keep-alive connections, `concurrency` at the most."""

    def __init__(
        self,
        concurrency: int,
        connect_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        connector = aiohttp.TCPConnector(
            limit=concurrency, keepalive_timeout=KEEP_ALIVE_SECONDS, socket_factory=_loopback_socket
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=read_seconds)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def post(self, url: str, body: bytes, head: Mapping[str, str]) -> AttemptResult:
        """POST once, without following redirects, and read up to 64 KiB of the answer.

        Raises:
            NotLoopback: the address is not on this machine.
        """
        require_loopback(url)
        begun = time.perf_counter()
        try:
            async with self._session.post(url, data=body, headers=head, allow_redirects=False) as answer:
                left = MAX_ANSWER_BYTES
                async for chunk in answer.content.iter_any():
                    left -= len(chunk)
                    if left < 0:
                        answer.close()
                        break
                return AttemptResult(answer.status, None, time.perf_counter() - begun)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return AttemptResult(None, _name(error), time.perf_counter() - begun)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _name(error: BaseException) -> str:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "connect timeout"
        case TimeoutError():
            return "read timeout"
        case aiohttp.ClientConnectorError():
            return "connection refused"
        case _:
            return "connection lost"
