"""Calls of a running simulator's control addresses, for the command line and for scripts."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from slotwire.ingest.errors import SlotwireError
from slotwire.ingest.foundation.local_stack import loading

CONNECT_SECONDS = 5.0
REMEDY = "Start one with `slotwire local` or `slotwire simulate serve`, or name it with --simulator-url."


class SimulatorClient:
    """A thin client with one method per HTTP method. Use it as a context manager."""

    def __init__(self, url: str) -> None:
        """Refuse an address that is not on this machine: these calls must never reach the real Calendly.

        Raises:
            SlotwireError: the address is not a loopback one.
        """
        if not _is_loopback(url):
            raise SlotwireError(
                f"{url} is not a simulator: a simulator runs on this machine only", remedy=f"{REMEDY}{loading()}"
            )
        self._url = url
        # A load is answered when it is finished, which may take long; only connecting has a limit.
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=False,
            # All calls are plain HTTP to this machine; loading certificates would take longer than a call.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Read `/simulator/{path}`."""
        return self._call("GET", path, params=query)

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """Act through `/simulator/{path}`; fields that are None are left out."""
        return self._call("POST", path, json={name: value for name, value in body.items() if value is not None})

    def delete(self, path: str) -> dict[str, Any]:
        """Stop `/simulator/{path}`."""
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, f"/simulator/{path}", **more)
            body = answer.json()
        except httpx.HTTPError as error:
            raise SlotwireError(
                f"no simulator answers at {self._url} ({type(error).__name__})", remedy=REMEDY
            ) from error
        except ValueError as error:
            raise SlotwireError(f"the server at {self._url} is not a simulator", remedy=REMEDY) from error
        if answer.is_error or not isinstance(body, dict):
            said = body.get("message", answer.reason_phrase) if isinstance(body, dict) else answer.reason_phrase
            raise SlotwireError(f"the simulator refused: {said}")
        return body


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
