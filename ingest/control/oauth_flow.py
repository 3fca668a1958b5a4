"""From a link to live events: consent in the customer's browser, checks, subscription, what was booked before.

What binds a browser to the flow it began is a sealed cookie, one per state; nothing is stored before its callback. What
Calendly gives then is kept first and used second, so a grant that comes to nothing is given back: `held_grants`. With a
return address it waits, unused, until the integrator's backend presents the one-time code that went there: so whoever
was sent a link for somebody else connects nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, Self, TypeAlias
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from slotwire.ingest.control.calendly_client.oauth import OAuthClient, TokenPair, outcome_known
from slotwire.ingest.control.calendly_client.uses import Bearer, Behalf
from slotwire.ingest.control.connect_links import CALLBACK, ConnectLink, ConnectLinks
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.control.connection_store import Credential, HeldGrant
from slotwire.ingest.control.connections import Identity
from slotwire.ingest.control.held_grants import HeldGrants
from slotwire.ingest.control.oauth_refresh import credential_of, oauth_client
from slotwire.ingest.control.organizations import ADMINISTRATORS, Organizations
from slotwire.ingest.errors import (
    CalendlyError,
    CalendlyProblem,
    DatabaseUnavailable,
    RequestRefused,
    SecretUnreadable,
)
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.key_texts import encode_base64url
from slotwire.ingest.foundation.postgres import Pool, read_queries, translated
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.keys.vault import Vault
from slotwire.schemas.ids import last_segment

STATE_LIFE = timedelta(minutes=15)
"""How long a browser may take from the button to the callback."""
COOKIE = "slotwire_oauth_"
MAX_VALUE = 4_096
"""Characters of a state, code or ticket that are looked at."""

_SQL = read_queries("slotwire.ingest.sql", "oauth.sql")
_log = get_logger("oauth")


class ConsentEntry(Protocol):
    """What is recorded of a consent; `target`: the connection that came of it."""

    target: UUID | str | None


ConsentWatcher: TypeAlias = Callable[[UUID, str], AbstractAsyncContextManager[ConsentEntry]]
"""Wraps the storing of what was consented to; called with the link and the organization."""


class FlowProblem(StrEnum):
    """Why the flow did not go on; each has a page of its own."""

    LINK_UNKNOWN = "link_unknown"
    LINK_ENDED = "link_ended"
    LINK_SPENT = "link_spent"
    LINK_BUSY = "link_busy"
    NOT_THIS_BROWSER = "not_this_browser"
    MIXED_UP = "mixed_up"
    DENIED = "denied"
    CODE_REFUSED = "code_refused"
    ANOTHER_ORGANIZATION = "another_organization"
    ANOTHER_NAME = "another_name"
    ADMIN_MISSING = "admin_missing"
    SCOPE_MISSING = "scope_missing"
    CALENDLY_FAILED = "calendly_failed"
    NOT_KEPT = "not_kept"


class FlowStopped(RequestRefused):
    """The customer cannot be connected like this. The page says what to do; a grant is given back."""

    def __init__(self, problem: FlowProblem, message: str, remedy: str = "") -> None:
        super().__init__(message, code=problem.value, remedy=remedy)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Begun:
    """A flow that a browser begins.

    Attributes:
        address: Calendly's consent page.
        cookie: the name of the cookie.
        value: its value.
    """

    address: str
    cookie: str
    value: str


@dataclass(frozen=True, slots=True)
class Live:
    """What came of a consent.

    Attributes:
        link: the link.
        org: the organization that is connected.
        role: the user's role in it.
        subscribed: whether its subscriptions are served by now; if not, the rounds go on.
        backfill: whether meetings are still to be fetched.
    """

    link: ConnectLink
    org: str
    role: str | None
    subscribed: bool
    backfill: bool


@dataclass(frozen=True, slots=True)
class Callback:
    """What the browser brought back, bounded."""

    state: str
    code: str
    error: str
    issuer: str | None
    cookie: str


@dataclass(frozen=True, slots=True)
class ConnectFlow:
    """The steps of connecting, for one app."""

    pool: Pool
    clock: Clock
    vault: Vault
    settings: Settings
    client: OAuthClient
    links: ConnectLinks
    held: HeldGrants
    organizations: Organizations
    consenting: ConsentWatcher

    @classmethod
    def from_settings(
        cls, settings: Settings, pool: Pool, clock: Clock, organizations: Organizations, consenting: ConsentWatcher
    ) -> Self | None:
        """Take the app of the settings; None if there is none."""
        client = oauth_client(settings, organizations.connections.calendly)
        links = ConnectLinks.from_settings(settings, pool, clock)
        if client is None or not links.has_app:
            return None
        vault = Vault.from_settings(settings.vault)
        held = HeldGrants(pool, clock, vault, client)
        return cls(pool, clock, vault, settings, client, links, held, organizations, consenting)

    async def open_link(self, ticket: str) -> ConnectLink:
        """Find a link that may still be used; changes nothing.

        Raises:
            FlowStopped: it is unknown, spent, or over.
        """
        link = await self.links.by_ticket(ticket[:MAX_VALUE])
        if link is None:
            raise FlowStopped(FlowProblem.LINK_UNKNOWN, "this link is not known")
        return self._usable(link)

    def begin(self, link: ConnectLink) -> Begun:
        """Bind a browser to a new state and verifier. Nothing is stored here."""
        state, verifier = (encode_base64url(secrets.token_bytes(32)) for _ in range(2))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        bound = {"link": str(link.id), "verifier": verifier, "at": self.clock.now().timestamp()}
        sealed = self.vault.seal(json.dumps(bound).encode(), context=("oauth_state", state))
        query = {
            "client_id": self.client.client_id,
            "response_type": "code",
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self.settings.oauth.scopes),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = f"{self.settings.calendly.auth_url}/oauth/authorize?{urlencode(query)}"
        return Begun(address, cookie_of(state), encode_base64url(sealed))

    @property
    def redirect_uri(self) -> str:
        """The address that is registered at Calendly."""
        return f"{self.links.base}{CALLBACK}"

    async def finish(self, back: Callback) -> Live | str:
        """Go on after the consent page: to live, or to the return address with a one-time code.

        Raises:
            FlowStopped: see `FlowProblem`; a grant that is of no use is given back.
            SlotwireError: Postgres failed before Calendly was asked.
        """
        link_id, verifier = self._bound(back)
        if back.issuer is not None and back.issuer.rstrip("/") != self.settings.calendly.auth_url.rstrip("/"):
            raise FlowStopped(FlowProblem.MIXED_UP, "the answer comes from another server than was asked")
        if back.error:
            raise FlowStopped(FlowProblem.DENIED, "the consent was not given")
        link = self._usable(await self.links.get(link_id))
        held = await self.held.begin(link)
        if held is None:
            raise FlowStopped(FlowProblem.LINK_BUSY, "this link is being used", "Open it again in some minutes.")
        asked = self.clock.now()
        try:
            pair = await self.client.exchange(
                back.code, verifier=verifier, redirect_uri=self.redirect_uri, by=Bearer(behalf=Behalf(str(link.id)))
            )
        except CalendlyError as error:
            known = error.problem is CalendlyProblem.CREDENTIAL
            doubtful = not outcome_known(error)
            _log.warning("code_refused", link=str(link.id), error=error.message, grant_possible=doubtful)
            await self.held.drop(held)
            problem = FlowProblem.CODE_REFUSED if known else FlowProblem.CALENDLY_FAILED
            raise FlowStopped(problem, "Calendly did not accept the code") from error
        if not await self.held.keep(held, pair):
            raise _not_kept()
        await self.client.count(pair)
        async with self._in_hand(held, pair):
            await self._check_organization(link, pair)
            if link.return_url is not None:
                return await self._wait_for_backend(link, held)
            return await self.go_live(link, pair, replace(credential_of(pair, asked), held=held))

    async def present(self, code: str, link: ConnectLink) -> Live:
        """Go on with what waited for a one-time code: the integrator's backend says that it is the right customer.

        Raises:
            RequestRefused: the code is not known, was presented before, or came too late (`code_unknown`).
            FlowStopped: see `finish`.
        """
        taken = await self.held.take(code[:MAX_VALUE], link)
        if taken is None:
            raise RequestRefused(
                "this code is not known: it was presented already, or came too late",
                code="code_unknown",
                remedy="Send the customer a new link.",
            )
        held, pair = taken
        async with self._in_hand(held, pair):
            credential = replace(credential_of(pair, self.clock.now()), held=held)
            return await self.go_live(link, pair, credential, spent=True)

    @asynccontextmanager
    async def _in_hand(self, held: HeldGrant, pair: TokenPair) -> AsyncIterator[None]:
        """Give a grant back if the block stops, or leave that to the chore: it knows whether it was stored."""
        try:
            yield
        except FlowStopped:
            await self.held.give_back(held, pair)
            raise
        except DatabaseUnavailable as problem:
            _log.error("grant_not_stored", link=str(held.link_id), error=problem.message)
            raise _not_kept() from problem

    async def go_live(self, link: ConnectLink, pair: TokenPair, credential: Credential, *, spent: bool = False) -> Live:
        """Store the connection, subscribe, and request what was booked before.

        Raises:
            FlowStopped: the user is of no use for this link; nothing was stored.
            SlotwireError: Postgres failed.
        """
        try:
            identity = await self._for(link).connections.identify(pair.access_token)
        except CalendlyError as error:
            scope = error.problem is CalendlyProblem.SCOPE
            problem = FlowProblem.SCOPE_MISSING if scope else FlowProblem.CALENDLY_FAILED
            raise FlowStopped(problem, "Calendly does not say who consented") from error
        if (identity.user_uri, identity.organization) != (pair.owner, pair.organization):
            raise FlowStopped(FlowProblem.ANOTHER_ORGANIZATION, "the user is in another organization now")
        administrator = identity.role in ADMINISTRATORS
        if not administrator and not await self._open_to_members(link, identity.org):
            raise FlowStopped(FlowProblem.ADMIN_MISSING, "an owner or admin of the organization must connect it first")
        if not spent and not await self.links.spend(link):
            raise FlowStopped(FlowProblem.LINK_SPENT, "this link was used meanwhile")
        return await self._store(link, identity, credential, administrator=administrator)

    def _for(self, link: ConnectLink) -> Organizations:
        """Return what acts at Calendly on behalf of whoever consented by a link."""
        return self.organizations.on_behalf(Behalf(str(link.id)))

    async def _store(
        self, link: ConnectLink, identity: Identity, credential: Credential, *, administrator: bool
    ) -> Live:
        try:
            async with self.consenting(link.id, identity.org) as entry:
                if administrator:
                    connection, subscribed = await self._subscribe(link, identity, credential)
                else:
                    stored = await self.organizations.connections.store_credential(identity, credential)
                    connection, subscribed = stored.connection, True
                entry.target = connection.id
        except RequestRefused as refused:
            raise _stopped_by(refused) from refused
        _log.info("connected", organization=identity.org, connection=str(connection.id), role=identity.role)
        return Live(link, identity.org, identity.role, subscribed, administrator and link.backfill_from is not None)

    async def _subscribe(
        self, link: ConnectLink, identity: Identity, credential: Credential
    ) -> tuple[ConnectionRecord, bool]:
        """Connect and subscribe; what Calendly refuses now is left to the rounds, and said."""
        external_id = link.external_id if link.org is None else None
        try:
            added = await self._for(link).connect(identity, credential, external_id=external_id)
        except CalendlyError as error:
            _log.warning("not_subscribed_yet", organization=identity.org, error=error.message)
            best = await self.organizations.connections.for_organization(identity.org)
            return best, False
        return added.connection, True

    async def revoke_late(self) -> int:
        """Give back what came to nothing, and forget old links; return how many grants were looked at."""
        found = await self.held.revoke_late()
        await self.links.forget_old()
        return found

    def _usable(self, link: ConnectLink) -> ConnectLink:
        if link.spent_at is not None:
            raise FlowStopped(FlowProblem.LINK_SPENT, "this link was used already")
        if self.clock.now() >= link.expires_at:
            raise FlowStopped(FlowProblem.LINK_ENDED, "this link is over")
        return link

    def _bound(self, back: Callback) -> tuple[UUID, str]:
        """Read the cookie of the browser that began this state."""
        elsewhere = FlowStopped(FlowProblem.NOT_THIS_BROWSER, "this browser did not begin this connection")
        try:
            sealed = base64.urlsafe_b64decode(back.cookie + "=" * (-len(back.cookie) % 4))
            bound = json.loads(self.vault.open(sealed, context=("oauth_state", back.state)))
        except (SecretUnreadable, binascii.Error, ValueError):
            raise elsewhere from None
        if self.clock.now().timestamp() - bound["at"] > STATE_LIFE.total_seconds():
            raise elsewhere
        return UUID(bound["link"]), bound["verifier"]

    async def _check_organization(self, link: ConnectLink, pair: TokenPair) -> None:
        org = last_segment(pair.organization)
        if link.org is not None and org != link.org:
            raise FlowStopped(FlowProblem.ANOTHER_ORGANIZATION, "this link is for another organization")
        with translated():
            taken = link.org is None and await self.pool.fetchval(_SQL["name_taken"], org, link.external_id)
        if taken:
            raise FlowStopped(FlowProblem.ANOTHER_NAME, "this organization is known under another name")

    async def _wait_for_backend(self, link: ConnectLink, held: HeldGrant) -> str:
        code = await self.held.wait_for_backend(held)
        if code is None:
            raise FlowStopped(FlowProblem.LINK_SPENT, "this link was used meanwhile")
        back = link.return_url or ""
        return f"{back}{'&' if urlsplit(back).query else '?'}{urlencode({'connect_code': code})}"

    async def _open_to_members(self, link: ConnectLink, org: str) -> bool:
        """Return whether a plain member may connect: an administrator has, and the link's name is not to be given."""
        try:
            best = await self.organizations.connections.for_organization(org)
            known = await self.organizations.get(org)
        except RequestRefused:
            return False
        named = link.org is not None or link.external_id is None or known.external_id is not None
        return best.role in ADMINISTRATORS and named


def cookie_of(state: str) -> str:
    """Return the name of a state's cookie: each tab has its own."""
    return COOKIE + hashlib.sha256(state.encode()).hexdigest()[:16]


def _not_kept() -> FlowStopped:
    return FlowStopped(
        FlowProblem.NOT_KEPT,
        "what the customer allowed could not be stored; what is not stored is given back",
        "Open the link again in some minutes, or make a new one. If it was used, the customer is connected.",
    )


def _stopped_by(refused: RequestRefused) -> FlowStopped:
    problem = {
        "external_id_set": FlowProblem.ANOTHER_NAME,
        "organization_refused": FlowProblem.ANOTHER_NAME,
        "token_not_enough": FlowProblem.SCOPE_MISSING,
    }.get(refused.code, FlowProblem.CALENDLY_FAILED)
    return FlowStopped(problem, refused.message, refused.remedy)
