"""Refreshes OAuth connections at half of a token's life, or its first 401: once each, and never without a trace.

A refresh token works once, so the answer must not be lost, and two must not ask. No transaction is open while Calendly
is asked: an attempt, with a deadline, is committed first, and others leave the connection alone until then. The pair
stays in memory until it is stored, whatever was recorded of the connection meanwhile. If it is not known what became of
an attempt (no answer, or its process died), Calendly is first asked whether the old refresh token still works.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client.leases import CallKind, Priority
from slotwire.ingest.control.calendly_client.oauth import OAuthClient, TokenPair, outcome_known
from slotwire.ingest.control.calendly_client.transport import CalendlyHttp
from slotwire.ingest.control.calendly_client.uses import Bearer
from slotwire.ingest.control.connection_records import OAUTH, StoredConnection, read_stored, refresh_context, unable
from slotwire.ingest.control.connection_states import Observation
from slotwire.ingest.control.connection_store import ConnectionStore, Credential
from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    DatabaseUnavailable,
    RequestRefused,
    SecretUnreadable,
    SlotwireError,
)
from slotwire.ingest.foundation.chores import repeat
from slotwire.ingest.foundation.defects import defect
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import CONNECTION_REFRESHES, get_logger

MARGIN = timedelta(seconds=60)
"""A token that ends sooner is not used for another call."""
DEADLINE = timedelta(seconds=90)
"""After this an attempt is taken over: its request has ended, whatever became of it."""
LATE = timedelta(minutes=30)
"""Where a refresh fails and the token ends sooner, the connection is shown as `expiring`."""
UNKNOWN_AGAIN = timedelta(seconds=15)
"""How soon an attempt whose outcome is unknown is looked at again."""
TRIES = 2
"""Requests of one attempt: another follows only if Calendly says that the token is not spent."""
INTERVAL_SECONDS = 15.0
PAGE = 100
AT_ONCE = 8
STOP_SECONDS = 8.0
"""How long a stopping process goes on with what it has begun."""
WAIT_SECONDS = 20.0
"""How long a caller waits for another process's refresh."""
POLL_SECONDS = 0.2
STORE_AGAIN_SECONDS = 0.5

_SQL = read_queries("slotwire.ingest.sql", "oauth.sql")
_FIRST = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
_log = get_logger("connections")


class RefreshOutcome(StrEnum):
    """What became of a refresh; also the label of `slotwire_connection_refreshes`."""

    REFRESHED = "refreshed"
    """The next pair is stored."""
    BUSY = "busy"
    """Another process is at it, or has done it."""
    LATER = "later"
    """Calendly refused without an effect, for example because there were too many requests."""
    UNKNOWN = "unknown"
    """No answer came, and Calendly does not say what became of it: it is asked again soon."""
    REVOKED = "revoked"
    """Calendly no longer accepts the grant."""
    LOST = "lost"
    """The refresh token was spent, and the answer is lost: the user must connect again."""
    FAILED = "failed"
    """The refresh token does not open, Postgres failed before anything was asked, or our code has a defect."""


@dataclass(slots=True)
class _Attempt:
    id: UUID
    stored: StoredConnection
    doubtful: bool


@dataclass(frozen=True, slots=True)
class Refresher:
    """Refreshes connections with the app of the settings."""

    pool: Pool
    store: ConnectionStore
    client: OAuthClient
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    running: set[asyncio.Task[RefreshOutcome]] = field(default_factory=set, repr=False)

    @classmethod
    def from_settings(
        cls, settings: Settings, pool: Pool, calendly: CalendlyHttp, store: ConnectionStore
    ) -> Self | None:
        """Take the app of the settings; None if there is none."""
        client = oauth_client(settings, calendly)
        return None if client is None else cls(pool, store, client)

    async def run(self) -> None:
        """Refresh what is due, again and again, until cancelled; what has begun is finished then, in bounded time."""
        try:
            await repeat(self.run_once, stage="connections", seconds=INTERVAL_SECONDS)
        finally:
            if self.running:
                await asyncio.wait(self.running, timeout=STOP_SECONDS)

    async def run_once(self) -> Counter[RefreshOutcome]:
        """Refresh every connection that is due; count the outcomes.

        Raises:
            DatabaseUnavailable: what is due cannot be listed.
        """
        outcomes, limit, after = Counter[RefreshOutcome](), asyncio.Semaphore(AT_ONCE), _FIRST

        async def refresh(connection_id: UUID) -> None:
            async with limit:
                outcomes[await self.refresh(connection_id)] += 1

        while due := await self._due(after):
            async with asyncio.TaskGroup() as group:
                for _, connection_id in due:
                    group.create_task(refresh(connection_id))
            after = due[-1]
        return outcomes

    async def refresh(self, connection_id: UUID, *, refused: UUID | None = None) -> RefreshOutcome:
        """Refresh one connection now. A caller that is cancelled does not end what has begun.

        Args:
            connection_id: the connection.
            refused: the credential whose token Calendly refused: it is refreshed before it is due.
        """
        task = asyncio.create_task(self._counted(connection_id, refused), name=f"refresh-{connection_id}")
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return await asyncio.shield(task)

    async def renewed(self, stored: StoredConnection) -> StoredConnection:
        """Refresh a connection whose token ends, or wait until another process has; return it as it is then.

        Raises:
            RequestRefused: it could not be refreshed (`connection_unable`).
        """
        record = stored.record
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_SECONDS
        while True:
            await self.refresh(record.id)
            now = await read_stored(self.pool, record.id, record.org)
            ends = now.record.access_expires_at
            if now.record.kind != OAUTH or (ends is not None and ends - self.store.clock.now() > MARGIN):
                return now
            if not now.record.status.able:
                raise unable(now.record)
            if loop.time() >= until:
                raise RequestRefused(
                    f"connection {record.id} cannot act: its token has ended, and Calendly gave no new one yet",
                    code="connection_unable",
                    remedy=f"Look at its state: slotwire connections show {record.id}",
                )
            await asyncio.sleep(POLL_SECONDS)

    async def after_refusal(self, stored: StoredConnection) -> StoredConnection:
        """Refresh a connection whose token Calendly refused, or wait until another process has.

        Return it as it is then: it has another credential, or there is none to be had: its grant is revoked or lost.

        Raises:
            RequestRefused: Calendly does not say now whether the grant is still good (`connection_unable`).
        """
        record = stored.record
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT_SECONDS
        while True:
            outcome = await self.refresh(record.id, refused=record.credential_id)
            now = await read_stored(self.pool, record.id, record.org)
            lost = now.record.state == "revoked" or now.record.reason == Observation.GRANT_LOST
            if now.record.credential_id != record.credential_id or lost:
                return now
            if outcome is not RefreshOutcome.BUSY or loop.time() >= until:
                raise RequestRefused(
                    f"connection {record.id} cannot act: Calendly refused its token, and gave no new one yet",
                    code="connection_unable",
                    remedy=f"Ask again in a minute: slotwire connections check {record.id}",
                )
            await asyncio.sleep(POLL_SECONDS)

    async def revoke(self, stored: StoredConnection) -> None:
        """Revoke a connection's grant at Calendly.

        Raises:
            CalendlyError: Calendly refused or failed.
            SecretUnreadable: the refresh token does not open.
        """
        await self.client.revoke(self._open(stored), user=stored.record.user_uri, by=_bearer(stored))

    async def revoke_all(self, org: str) -> None:
        """Revoke the grants of an organization whose connections are about to go; the log names those that stay."""
        with translated():
            rows = await self.pool.fetch(_SQL["grants_of"], org)
        for row in rows:
            try:
                await self.revoke(await read_stored(self.pool, row["id"], org))
            except (CalendlyError, SecretUnreadable) as problem:
                _log.warning("grant_not_revoked", connection=str(row["id"]), org=org, error=problem.message)

    async def _due(self, after: tuple[datetime, UUID]) -> Sequence[tuple[datetime, UUID]]:
        with translated():
            rows = await self.pool.fetch(_SQL["refreshes_due"], self.store.clock.now(), *after, PAGE)
        return [(row["refresh_at"], row["id"]) for row in rows]

    async def _counted(self, connection_id: UUID, refused: UUID | None) -> RefreshOutcome:
        try:
            outcome = await self._refresh(connection_id, refused)
        except SlotwireError as problem:
            _log.warning("refresh_failed", connection=str(connection_id), error=problem.message)
            outcome = RefreshOutcome.FAILED
        except Exception as error:  # noqa: BLE001 -- the edge: one connection's must not end the process for all others
            _log.error("refresh_defect", connection=str(connection_id), **defect(error))
            outcome = RefreshOutcome.FAILED
        CONNECTION_REFRESHES.labels(outcome).inc()
        return outcome

    async def _refresh(self, connection_id: UUID, refused: UUID | None) -> RefreshOutcome:
        attempt = await self._begin(connection_id, refused)
        if attempt is None:
            return RefreshOutcome.BUSY
        token = await self._opened(attempt)
        budgets = self.client.http.budgets
        # Whatever else is done as this user waits for it.
        user, by = attempt.stored.record.user_uri, _bearer(attempt.stored)
        caller = budgets.caller(user, Priority.PERSON, CallKind.TOKEN, by=by)
        for _ in range(TRIES):
            if attempt.doubtful:
                works = await self._works(token, user, by)
                if works is None:
                    break
                if not works:
                    return await self._lost(attempt)
            try:
                lease = await caller.turn("refreshing a connection")
                asked = self.store.clock.now()
                pair = await self.client.refresh(token, user=user, by=by, lease=lease)
            except CalendlyError as error:
                if error.status is not None:
                    await caller.heard(error.status, {})
                if outcome_known(error):
                    return await self._refused(attempt, error)
                attempt.doubtful = True
            else:
                return await self._keep(attempt, credential_of(pair, asked))
        return await self._postpone(attempt)

    async def _begin(self, connection_id: UUID, refused: UUID | None) -> _Attempt | None:
        """Commit an attempt; None where another one is under way, or nothing is due any more."""
        now, attempt = self.store.clock.now(), uuid4()
        with translated():
            row = await self.pool.fetchrow(
                _SQL["begin_refresh"], connection_id, attempt, self.owner, now, now + DEADLINE, now + MARGIN, refused
            )
        if row is None:
            return None
        stored = await read_stored(self.pool, connection_id, None)
        return (
            _Attempt(attempt, stored, row["doubtful"]) if stored.record.credential_id == row["credential_id"] else None
        )

    async def _works(self, token: SecretStr, user: str, by: Bearer) -> bool | None:
        """Ask whether a refresh token works; None if Calendly does not say."""
        try:
            return await self.client.introspect(token, user=user, by=by)
        except CalendlyError as error:
            _log.warning("introspection_failed", error=error.message)
            return None

    async def _keep(self, attempt: _Attempt, credential: Credential) -> RefreshOutcome:
        """Store the pair, however long Postgres is away: it is nowhere else."""
        record, wait = attempt.stored.record, STORE_AGAIN_SECONDS
        while True:
            try:
                kept = await self.store.replace(record.id, record.credential_id, credential)
            except DatabaseUnavailable as problem:
                _log.error("refreshed_pair_not_stored", connection=str(record.id), error=problem.message)
                await asyncio.sleep(wait)
                wait = min(wait * 2, 5.0)
            else:
                return RefreshOutcome.REFRESHED if kept else RefreshOutcome.BUSY

    async def _lost(self, attempt: _Attempt) -> RefreshOutcome:
        await self.store.observe(attempt.stored, Observation.GRANT_LOST)
        await self._end(attempt)
        return RefreshOutcome.LOST

    async def _refused(self, attempt: _Attempt, error: CalendlyError) -> RefreshOutcome:
        """Calendly gave no pair, and says so."""
        if error.problem is not CalendlyProblem.CREDENTIAL:
            _log.warning("refresh_refused", connection=str(attempt.stored.record.id), error=error.message)
            await self._end(attempt)
            await self._show_late(attempt)
            return RefreshOutcome.LATER
        if attempt.doubtful:
            return await self._lost(attempt)
        await self.store.revoke(attempt.stored)
        await self._end(attempt)
        return RefreshOutcome.REVOKED

    async def _end(self, attempt: _Attempt) -> None:
        with translated():
            await self.pool.execute(_SQL["end_refresh"], attempt.stored.record.id, attempt.id)

    async def _postpone(self, attempt: _Attempt) -> RefreshOutcome:
        """Leave the attempt, in doubt as it is, to whoever comes next."""
        with translated():
            until = self.store.clock.now() + UNKNOWN_AGAIN
            await self.pool.execute(_SQL["postpone_refresh"], attempt.stored.record.id, attempt.id, until)
        await self._show_late(attempt)
        return RefreshOutcome.UNKNOWN

    async def _show_late(self, attempt: _Attempt) -> None:
        """Show a connection whose token ends soon, and is not refreshed."""
        ends = attempt.stored.record.access_expires_at
        if ends is not None and ends - self.store.clock.now() <= LATE:
            await self.store.observe(attempt.stored, Observation.REFRESH_FAILS)

    async def _opened(self, attempt: _Attempt) -> SecretStr:
        try:
            return self._open(attempt.stored)
        except SecretUnreadable:
            await self.store.observe(attempt.stored, Observation.UNREADABLE)
            await self._end(attempt)
            raise

    def _open(self, stored: StoredConnection) -> SecretStr:
        record = stored.record
        context = refresh_context(record.org, record.id, record.credential_id)
        return SecretStr(self.store.vault.open(stored.refresh_sealed or b"", context=context).decode())


async def run(refresher: Refresher | None) -> None:
    """Refresh what is due until cancelled; without an app, only wait for that."""
    if refresher is not None:
        await refresher.run()
    await asyncio.Event().wait()


def credential_of(pair: TokenPair, asked: datetime) -> Credential:
    """Turn a pair into a credential; its times count from when it was asked for."""
    life = timedelta(seconds=pair.expires_in)
    return Credential(
        OAUTH,
        pair.access_token,
        refresh=pair.refresh_token,
        access_expires_at=asked + life,
        refresh_at=asked + life / 2,
        scopes=tuple(pair.scope.split()) or None,
    )


def oauth_client(settings: Settings, calendly: CalendlyHttp) -> OAuthClient | None:
    """Return a client of the OAuth server for the app of the settings; None if there is none."""
    oauth = settings.oauth
    if not oauth.client_id or oauth.client_secret is None:
        return None
    return OAuthClient(calendly, oauth.client_id, oauth.client_secret)


def _bearer(stored: StoredConnection) -> Bearer:
    """Return whose token it is, for the audit."""
    return Bearer(stored.record.org, stored.record.id)
