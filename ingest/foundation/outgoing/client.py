"""A POST to an address that somebody else names: judged, limited, counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from time import perf_counter
from typing import Self

from slotwire.ingest.foundation.errors import OutgoingFailed, OutgoingRefused
from slotwire.ingest.foundation.outgoing.connections import Answer, ReceiverConnections, Resolve
from slotwire.ingest.foundation.outgoing.target import read_target
from slotwire.ingest.foundation.outgoing.turns import Turns
from slotwire.ingest.foundation.outgoing_metrics import OUTGOING_REQUESTS, OUTGOING_SECONDS
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings


class Outgoing:
    """Requests of one process to receivers. It connects with the first one.

        async with Outgoing(settings.outgoing, purpose="notify") as outgoing:
            answer = await outgoing.post(url, body, headers)

    Redirects are not followed, and no proxy of the environment is used: both would choose another address.
    """

    def __init__(self, settings: OutgoingSettings, *, purpose: str, resolve: Resolve | None = None) -> None:
        """Take the settings.

        Args:
            settings: who may be connected to, and the limits.
            purpose: what the requests are for, a word of the code's: the label of the metrics.
            resolve: looks names up; None: as the system does.
        """
        self._settings = settings
        self._purpose = purpose
        self._connections = ReceiverConnections(settings, resolve)
        self._turns = Turns(at_once=settings.at_once_per_destination, per_second=settings.per_second_per_destination)

    def of(self, purpose: str) -> Outgoing:
        """Return the same connections and limits for another purpose; close the first one only."""
        shared = copy(self)
        shared._purpose = purpose  # noqa: SLF001 - a copy of ourselves
        return shared

    async def __aenter__(self) -> Self:
        """Return itself; nothing is opened yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close its connections."""
        await self._connections.aclose()

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """Send a body once, and return the answer, whatever its status is.

        Args:
            url: the receiver's address. It may be a secret, and appears in no message, log or metric.
            body: what is sent.
            headers: beside those of the request itself. Nothing that a stranger typed belongs there.
            first: awaited once the request's turn has come, which may be seconds later: what it raises leaves the
                request unsent.

        Raises:
            OutgoingRefused: the address may not be connected to, or is written so that nobody should; asking again
                changes nothing.
            OutgoingFailed: no whole answer came. The receiver may have got the request.
            ConfigurationError: the file of the CA cannot be read.
        """
        started, outcome = perf_counter(), "interrupted"
        try:
            target = read_target(url, local=self._settings.allow_local)
            async with self._turns.taken(target.destination):
                if first is not None:
                    await first()
                answer = await self._connections.post(target, body, headers, self._settings.timeout_seconds)
            outcome = f"{answer.status // 100}xx"
        except (OutgoingRefused, OutgoingFailed) as error:
            outcome = error.reason
            raise
        finally:
            OUTGOING_REQUESTS.labels(self._purpose, outcome).inc()
            OUTGOING_SECONDS.labels(self._purpose).observe(perf_counter() - started)
        return answer
