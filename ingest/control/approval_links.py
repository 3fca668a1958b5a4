"""Links under which a person decides, in the browser, about what an agent asks for.

A ticket is base64url(id | mac): the 16 octets of the link's id, and an HMAC-SHA256 over that, the approval's id, the
digest of what is asked for, who is asked, of which organization, and until when. So a link is for one approval, person
and content. To make one up somebody needs a server key and a row of the database; processes of agents have neither.
A link may be opened as often as one likes, because mail scanners do that too; it decides once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Self, TypeAlias
from uuid import UUID, uuid4

from pydantic import SecretStr

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.key_texts import decode_base64url, encode_base64url
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.keys.hooks import hook_keys

if TYPE_CHECKING:
    import asyncpg

PAGE = "/approvals/link"
MAX_LIFE = timedelta(days=7)
"""A link is good as long as its approval, and no longer than this."""

DecisionWatcher: TypeAlias = Callable[[UUID, str, UUID], AbstractAsyncContextManager[object]]
"""Wraps a decision by a link; called with the link, the organization and the approval."""

_LABEL = b"slotwire approval link v1\0"
_TICKET = re.compile(r"[A-Za-z0-9_-]{64}", re.ASCII)
_ID_BYTES = 16
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_SQL = read_queries("slotwire.ingest.sql", "approvals.sql")


class LinkProblem(StrEnum):
    """Why a link decides nothing; each has a page of its own."""

    UNKNOWN = "link_unknown"
    OVER = "link_over"
    DECIDED = "decided_before"
    ANOTHER = "another_digest"


class LinkStopped(RequestRefused):
    """The link decides nothing. The page says what to do."""

    def __init__(self, problem: LinkProblem) -> None:
        super().__init__(f"an approval link decided nothing: {problem.value}", code=problem.value)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class LinkedApproval:
    """An approval, as its link shows it.

    Attributes:
        link_id: of the link.
        until: when the link ends.
        made_by: who made the link.
        approval_id: of the approval.
        agent: the agent that asks.
        org: the organization of its event.
        name: as the handler calls it.
        person: who is asked, as the agent names them.
        what: what is to be approved, as JSON.
        digest: SHA-256 of `what`.
        state: `open`, `approved`, `denied` or `expired`.
    """

    link_id: UUID
    until: datetime
    made_by: str
    approval_id: UUID
    agent: str
    org: str
    name: str
    person: str
    what: str = field(repr=False)
    digest: bytes
    state: str


@dataclass(frozen=True, slots=True)
class ApprovalLinks:
    """Makes links, finds what they are for, and decides."""

    pool: Pool
    clock: Clock
    keys: tuple[bytes, ...] = field(repr=False)
    base: str

    @classmethod
    def from_settings(cls, settings: Settings, pool: Pool, clock: Clock) -> Self:
        """Take the server keys and the address of the pages.

        Raises:
            ConfigurationError: there is no key, or one is unfit.
        """
        oauth = settings.oauth
        return cls(
            pool, clock, hook_keys(settings), (oauth.public_url or settings.public_url) if oauth.has_pages else ""
        )

    @property
    def has_pages(self) -> bool:
        """Whether links can be made: `control` has pages for browsers."""
        return bool(self.base)

    async def make(self, approval_id: UUID, *, by: str) -> tuple[datetime, SecretStr] | None:
        """Make a link, in place of an earlier one; return its end and its address, which is a secret.

        Returns:
            None where there is nothing left to decide.
        """
        now, link_id = self.clock.now(), uuid4()
        with translated():
            made = await self.pool.fetchval(
                _SQL["make_approval_link"], approval_id, link_id, now, by[:200], now + MAX_LIFE
            )
            row = await self.pool.fetchrow(_SQL["approval_of_link"], link_id)
        if made is None or row is None:
            return None
        linked = _linked(row)
        ticket = encode_base64url(link_id.bytes + self._mac(self.keys[0], linked))
        return linked.until, SecretStr(f"{self.base}{PAGE}?ticket={ticket}")

    async def find(self, ticket: str) -> LinkedApproval:
        """Find what a link is for; changes nothing.

        Raises:
            LinkStopped: it is not one of ours, its run has ended, or another link took its place (`link_unknown`).
        """
        if not _TICKET.fullmatch(ticket):
            raise LinkStopped(LinkProblem.UNKNOWN)
        octets = decode_base64url(ticket)
        with translated():
            row = await self.pool.fetchrow(_SQL["approval_of_link"], UUID(bytes=octets[:_ID_BYTES]))
        if row is None:
            raise LinkStopped(LinkProblem.UNKNOWN)
        linked, genuine = _linked(row), False
        for key in self.keys:
            genuine |= hmac.compare_digest(self._mac(key, linked), octets[_ID_BYTES:])
        if not genuine:
            raise LinkStopped(LinkProblem.UNKNOWN)
        return linked

    def require_open(self, linked: LinkedApproval) -> None:
        """Refuse a link that decides nothing any more.

        Raises:
            LinkStopped: somebody has decided, or the time is over.
        """
        if linked.state in {"approved", "denied"}:
            raise LinkStopped(LinkProblem.DECIDED)
        if linked.state != "open" or linked.until <= self.clock.now():
            raise LinkStopped(LinkProblem.OVER)

    async def decide(self, linked: LinkedApproval, digest: str, *, approved: bool) -> None:
        """Decide, once, about what the page showed.

        Raises:
            LinkStopped: see `require_open`; or the page showed something else (`another_digest`).
        """
        self.require_open(linked)
        if not hmac.compare_digest(digest.encode(), linked.digest.hex().encode()):
            raise LinkStopped(LinkProblem.ANOTHER)
        by = f"link {linked.link_id}, made by {linked.made_by}"
        with translated():
            decided = await self.pool.fetchval(
                _SQL["decide_by_link"], linked.link_id, linked.digest, approved, by, self.clock.now()
            )
            row = None if decided else await self.pool.fetchrow(_SQL["approval_of_link"], linked.link_id)
        if not decided:
            if row is not None:
                self.require_open(_linked(row))
            raise LinkStopped(LinkProblem.UNKNOWN)

    @staticmethod
    def _mac(key: bytes, linked: LinkedApproval) -> bytes:
        until = (linked.until - _EPOCH) // timedelta(microseconds=1)
        told = (
            linked.link_id.bytes,
            linked.approval_id.bytes,
            until.to_bytes(8, "big"),
            linked.digest,
            hashlib.sha256(linked.person.encode()).digest(),
            hashlib.sha256(linked.org.encode()).digest(),
        )
        return hmac.digest(key, _LABEL + b"".join(told), "sha256")


def _linked(row: asyncpg.Record) -> LinkedApproval:
    return LinkedApproval(**dict(row))
