"""Links under which a customer connects their Calendly in the browser.

The ticket in a link is a secret of 256 bits; the database has its hash only. It may be opened as often as one likes,
because mail scanners do that too: the first callback that succeeds spends it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, Self, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.errors import RequestRefused, RowRefused
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.oauth_settings import OAuthSettings
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import Settings

if TYPE_CHECKING:
    import asyncpg

LINK = "slotwire connections link --organization"
"""The command that makes a link for an organization that is known."""
START = "/oauth/calendly/start"
CALLBACK = "/oauth/calendly/callback"
DEFAULT_LIFE = timedelta(minutes=10)
MAX_LIFE = timedelta(days=7)
TICKET_BYTES = 32
KEPT_DAYS = 30
"""Links that brought nothing are forgotten so long after their end."""
FORGOTTEN_AT_ONCE = 1_000
"""How many of them are removed at once."""

LinkState: TypeAlias = Literal["open", "pending", "connected", "expired"]

_SQL = read_queries("slotwire.ingest.sql", "oauth.sql")


@dataclass(frozen=True, slots=True)
class ConnectLink:
    """A link as it is stored, without its ticket.

    Attributes:
        id: ours.
        org: the organization that may be connected; None while it is not known.
        external_id: the user's own name for the customer.
        customer: how the page names the customer; None: by the external id or the organization.
        return_url: where the browser goes with a one-time code; None: the connection is live at once.
        backfill_from: meetings that start then or later are fetched once it is connected.
        created_at: when it was made.
        expires_at: when it ends.
        spent_at: when a callback succeeded; None while none has.
        connection_id: the connection that came of it.
    """

    id: UUID
    org: str | None
    external_id: str | None
    customer: str | None
    return_url: str | None
    backfill_from: datetime | None
    created_at: datetime
    expires_at: datetime
    spent_at: datetime | None
    connection_id: UUID | None

    def state(self, now: datetime) -> LinkState:
        """Return what became of it."""
        if self.connection_id is not None:
            return "connected"
        if self.spent_at is not None:
            return "pending"
        return "open" if now < self.expires_at else "expired"

    @property
    def named(self) -> str:
        """How the customer is named."""
        return self.customer or self.external_id or self.org or ""


@dataclass(frozen=True, slots=True)
class ConnectLinks:
    """Makes and finds links."""

    pool: Pool
    clock: Clock
    settings: OAuthSettings
    base: str

    @classmethod
    def from_settings(cls, settings: Settings, pool: Pool, clock: Clock) -> Self:
        """Take the app and the public address of the settings, if there are any."""
        return cls(pool, clock, settings.oauth, settings.oauth.public_url or settings.public_url)

    @property
    def has_app(self) -> bool:
        """Whether links can be made: there is an app, and an address under which its pages are reached."""
        return bool(self.settings.client_id and self.base)

    async def create(
        self,
        *,
        org: str | None = None,
        external_id: str | None = None,
        customer: str | None = None,
        return_url: str | None = None,
        life: timedelta = DEFAULT_LIFE,
        backfill_from: datetime | None = None,
    ) -> tuple[ConnectLink, SecretStr]:
        """Make a link; return it with its address, which is a secret.

        Args:
            org: the only organization that may be connected; None if it is not known yet.
            external_id: the user's own name for a customer who is not known yet.
            customer: how the page names the customer.
            return_url: where the browser goes with a one-time code: one of the settings', with any query.
            life: how long it is good, up to 7 days.
            backfill_from: fetch meetings that start then or later.

        Raises:
            RequestRefused: the return address is not allowed (`return_url_refused`), the life is too long
                (`life_invalid`), or there is no such organization (`not_found`).
        """
        if not timedelta(0) < life <= MAX_LIFE:
            raise RequestRefused(
                "a link is good for at least a second and at most 7 days",
                code="life_invalid",
                remedy=f"Give up to {int(MAX_LIFE.total_seconds())} seconds.",
            )
        if return_url is not None and not allowed(return_url, self.settings.return_urls):
            raise RequestRefused(
                "the return address is not one of SLOTWIRE_OAUTH__RETURN_URLS",
                code="return_url_refused",
                remedy="Add its scheme, host and path to SLOTWIRE_OAUTH__RETURN_URLS, or leave it out.",
            )
        now, ticket = self.clock.now(), encode_base64url(secrets.token_bytes(TICKET_BYTES))
        link = ConnectLink(uuid4(), org, external_id, customer, return_url, backfill_from, now, now + life, None, None)
        try:
            with translated():
                await self.pool.execute(
                    _SQL["insert_link"],
                    *(link.id, digest(ticket), org, external_id, customer, return_url, backfill_from, now),
                    link.expires_at,
                )
        except RowRefused:
            raise RequestRefused(
                "there is no such organization within reach",
                code="not_found",
                remedy="List them: slotwire organizations list. For a customer who is not known, give an external id.",
            ) from None
        return link, SecretStr(f"{self.base}{START}?ticket={ticket}")

    async def to_connect_again(self, org: str) -> str | None:
        """Make a link for a connection that cannot act any more."""
        _, url = await self.create(org=org, life=MAX_LIFE)
        return url.get_secret_value()

    async def by_ticket(self, ticket: str) -> ConnectLink | None:
        """Find the link of a ticket."""
        with translated():
            row = await self.pool.fetchrow(_SQL["link_by_ticket"], digest(ticket))
        return None if row is None else _link(row)

    async def get(self, link_id: UUID, org: str | None = None) -> ConnectLink:
        """Read one link of an organization, or any.

        Raises:
            RequestRefused: there is no such link, or it belongs to another organization (`not_found`).
        """
        with translated():
            row = await self.pool.fetchrow(_SQL["link"], link_id, org)
        if row is None:
            raise link_unknown()
        return _link(row)

    async def page(
        self, org: str | None, *, after: tuple[datetime, UUID] | None, limit: int
    ) -> tuple[ConnectLink, ...]:
        """List links of one organization, or all, oldest first."""
        created_at, link_id = after or (None, None)
        with translated():
            rows = await self.pool.fetch(_SQL["links_page"], org, created_at, link_id, limit)
        return tuple(map(_link, rows))

    async def spend(self, link: ConnectLink) -> bool:
        """Spend a link; False where another callback was first, or it has ended."""
        with translated():
            return await self.pool.fetchval(_SQL["spend_link"], link.id, self.clock.now()) is not None

    async def withdraw(self, link: ConnectLink) -> None:
        """End a link before its time, unless it was used."""
        with translated():
            await self.pool.fetchval(_SQL["withdraw_link"], link.id, self.clock.now())

    async def forget_old(self) -> None:
        """Remove links that ended long ago and brought nothing."""
        before = self.clock.now() - timedelta(days=KEPT_DAYS)
        with translated():
            await self.pool.execute(_SQL["forget_links"], before, FORGOTTEN_AT_ONCE)


def allowed(url: str, listed: tuple[str, ...]) -> bool:
    """Return whether an address is one of a list; its query does not count, and nothing is repaired."""
    try:
        asked = urlsplit(url)
        port = asked.port
    except ValueError:
        return False
    if asked.username or asked.password or asked.fragment or any(c.isspace() or c == "\\" for c in url):
        return False
    mine = (asked.scheme, asked.hostname, port, asked.path)
    return any(mine == (each.scheme, each.hostname, each.port, each.path) for each in map(urlsplit, listed))


def digest(secret: str) -> bytes:
    """Return what the database keeps of a secret with 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()


def pending_context(link_id: UUID) -> tuple[str, ...]:
    """Return the context a pair that waits is bound to."""
    return ("pending_connections", str(link_id))


def link_unknown() -> RequestRefused:
    """Make the error for a link that is not there."""
    return RequestRefused(
        "there is no such link within reach", code="not_found", remedy="List them: slotwire connections links"
    )


def _link(row: asyncpg.Record) -> ConnectLink:
    return ConnectLink(**dict(row))
