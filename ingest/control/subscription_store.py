"""The subscription manager's rows: what it reads before it decides, and every change of state, under a claim.

    creating ──Calendly accepted──▶ active ──deleted, or gone at Calendly──▶ ended
        └──────Calendly refused, or does not have it───────────────────────────▲

Hook and signing key are minted and stored before Calendly is asked, so every delivery that arrives can be verified.
A subscription that was lost, and one that is served again, is noted in the transaction that accepts the event about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from slotwire.ingest.control import app_keys
from slotwire.ingest.control.calendly_client.uses import ActingAs
from slotwire.ingest.control.claims import CLAIM, OrganizationClaim, OrganizationClaimLost
from slotwire.ingest.control.holes import HoleCause, note_hole
from slotwire.ingest.control.subscription_events import disabled_event, restored_event
from slotwire.ingest.control.subscription_facts import (
    Circumstances,
    Loss,
    LossReason,
    Place,
    PlaceState,
    SubscriptionRecord,
    WantedSubscription,
    begin_of_hole,
)
from slotwire.ingest.control.subscription_plan import LOSS_SPAN, Creation
from slotwire.ingest.control.subscription_records import subscription_of
from slotwire.ingest.foundation.clock import Clock
from slotwire.ingest.foundation.postgres import Pool, borrowed, call_outright, read_queries, translated
from slotwire.ingest.keys.hooks import HookAddresses
from slotwire.ingest.keys.signing_keys import mint_signing_key, signing_key_context
from slotwire.ingest.keys.vault import Vault
from slotwire.ingest.receive.accept import OwnEvent, committing, own_row
from slotwire.schemas.ids import OrganizationUri

ACCEPT_SECONDS = 5.0
"""How long the commit of a change of state, with its event, may take."""

_SQL = read_queries("slotwire.ingest.sql", "subscriptions.sql")
_CONTROL = read_queries("slotwire.ingest.sql", "control.sql")


@dataclass(frozen=True, slots=True)
class SubscriptionStore:
    """Reads and writes the rows."""

    pool: Pool
    vault: Vault
    hooks: HookAddresses
    clock: Clock

    async def wanted(self, org: str) -> tuple[WantedSubscription, ...]:
        """Read the wanted subscriptions of an organization."""
        with translated():
            rows = await self.pool.fetch(_CONTROL["wanted"], org)
        return tuple(
            WantedSubscription(tuple(row["events"]), row["scope"], row["subject"], row["max_age_seconds"])
            for row in rows
        )

    async def live(self, org: str) -> tuple[SubscriptionRecord, ...]:
        """Read an organization's subscriptions that are not ended, oldest first."""
        with translated():
            return tuple(map(subscription_of, await self.pool.fetch(_SQL["live_subscriptions"], org)))

    async def circumstances(self, org: str, overlap: timedelta) -> Circumstances:
        """Read what decides beside the lists."""
        losses: defaultdict[Place, list[Loss]] = defaultdict(list)
        with translated():
            async with self.pool.acquire() as connection:
                for row in await connection.fetch(_SQL["losses"], org, self.clock.now() - LOSS_SPAN):
                    losses[row["scope"], row["subject"]].append(Loss(row["lost_at"], row["failed"]))
                rows = await connection.fetch(_SQL["place_states"], org)
                lost = await connection.fetch(_SQL["unrestored_subscriptions"], org)
                dead = await connection.fetch(_SQL["dead_hooks"], org)
                watch = await connection.fetchrow(_SQL["watch_row"], org)
                may_delete = await connection.fetchval(_SQL["deletions_confirmed"])
        return Circumstances(
            overlap,
            frozenset(() if watch is None else watch["departed"]),
            {(row["scope"], row["subject"]): _state_of(row, losses) for row in rows},
            tuple(map(subscription_of, lost)),
            bool(may_delete),
            frozenset(row["hook_id"] for row in dead),
            None if watch is None else watch["well_at"],
        )

    async def insert(
        self, claim: OrganizationClaim, creation: Creation, *, known: Container[UUID], by: ActingAs | None = None
    ) -> tuple[SubscriptionRecord, str | None] | None:
        """Write the row of a new subscription and its key.

        Args:
            claim: the claim it is made under.
            creation: what to make.
            known: subscriptions that were there when that was decided.
            by: the connection that will make it; an OAuth app signs with keys of its own.

        Returns:
            the row and its signing key, None where the app signs; None if it is no longer wanted, or another creation
            has begun since.

        Raises:
            OrganizationClaimLost: another process has the claim.
        """
        want, org = creation.want, claim.org
        signing_key = None if by is not None and by.app else mint_signing_key()
        now, subscription_id, key_id, hook_id = self.clock.now(), uuid4(), uuid4(), self.hooks.mint()
        context = signing_key_context(org, subscription_id, key_id)
        sealed = None if signing_key is None else self.vault.seal(signing_key.encode(), context=context)
        async with borrowed(self.pool) as connection, connection.transaction():
            await connection.execute(_CONTROL["lock_organization"], org)
            wanted_row = (org, want.scope, want.subject, list(want.events), want.max_age_seconds)
            if not await connection.fetchval(_CONTROL["is_wanted"], *wanted_row):
                return None
            rows = await connection.fetch(_SQL["live_subscriptions"], org)
            if any((row["scope"], row["subject"]) == want.place and row["id"] not in known for row in rows):
                return None
            columns = (hook_id, want.scope, want.subject, list(creation.events), want.max_age_seconds, now)
            made = await connection.fetchval(
                *(_SQL["insert_subscription"], subscription_id, org, *columns),
                *(key_id, sealed, creation.replaces, claim.epoch, None if by is None else by.connection_id),
            )
            if made is None:
                raise OrganizationClaimLost
            if signing_key is None:
                await app_keys.give(connection, self.vault, org, subscription_id, self.clock)
        record = SubscriptionRecord(
            subscription_id,
            org,
            hook_id,
            provider_uri=None,
            scope=want.scope,
            events=creation.events,
            state="creating",
            max_age_seconds=want.max_age_seconds,
            created_at=now,
            ended_at=None,
            subject=want.subject,
            replaces=creation.replaces,
        )
        return record, signing_key

    async def activate(
        self, claim: OrganizationClaim, item: SubscriptionRecord, provider_uri: str
    ) -> SubscriptionRecord | None:
        """Note that Calendly has created it; None if it was ended meanwhile.

        Raises:
            OrganizationClaimLost: another process has the claim.
        """
        return await self._changed(claim, _SQL["activate_subscription"], item.id, provider_uri, claim.epoch)

    async def end(self, claim: OrganizationClaim, seen: SubscriptionRecord) -> SubscriptionRecord | None:
        """Note that Calendly does not have it; None if it is not in the state that was read any more.

        Raises:
            OrganizationClaimLost: another process has the claim.
        """
        return await self._changed(claim, _SQL["end_subscription"], seen.id, seen.state, self.clock.now(), claim.epoch)

    async def begin_deletion(self, claim: OrganizationClaim, item: SubscriptionRecord) -> None:
        """Note that it is about to be deleted at Calendly, and keep the claim for that long.

        Raises:
            OrganizationClaimLost: another process has the claim: nothing may be deleted.
        """
        now = self.clock.now()
        with translated():
            noted = await self.pool.fetchval(_SQL["begin_deletion"], item.id, claim.epoch, now, now + CLAIM)
        if noted is None:
            raise OrganizationClaimLost

    async def note_retrying(self, claim: OrganizationClaim, item: SubscriptionRecord, since: datetime | None) -> None:
        """Note since when Calendly retries to it; None if it does not.

        Raises:
            OrganizationClaimLost: another process has the claim.
        """
        with translated():
            noted = await self.pool.fetchval(_SQL["note_retrying"], item.id, since, claim.epoch)
        if noted is None:
            raise OrganizationClaimLost

    async def note_hole(
        self, item: SubscriptionRecord, cause: HoleCause, retrying_since: datetime | None, well_at: datetime | None
    ) -> None:
        """Note that deliveries over a subscription may be missing, so that they are fetched."""
        since = begin_of_hole(item, retrying_since, well_at)
        now = self.clock.now()
        await note_hole(self.pool, item.org, cause=cause, since=since, now=now, subscription=item.id)

    async def lose(
        self,
        claim: OrganizationClaim,
        item: SubscriptionRecord,
        organization: OrganizationUri,
        reason: LossReason,
        retrying_since: datetime | None,
    ) -> bool:
        """Note that it is disabled or gone, with the event that says so; return whether that was new.

        Raises:
            OrganizationClaimLost: another process has the claim.
        """
        now = self.clock.now()
        event = disabled_event(item, organization, reason, retrying_since, now)
        return await self._told(claim, _SQL["lose_subscription"], event, now, item.id, claim.epoch, reason)

    async def restore(
        self,
        claim: OrganizationClaim,
        lost: SubscriptionRecord,
        by: SubscriptionRecord,
        organization: OrganizationUri,
        missing: tuple[str, ...],
    ) -> bool:
        """Note that the place of a lost one is served again, with the event; return whether that was new.

        Raises:
            OrganizationClaimLost: another process has the claim.
        """
        now = self.clock.now()
        event = restored_event(lost, by, organization, missing, now)
        return await self._told(claim, _SQL["restore_subscription"], event, now, lost.id, by.id, claim.epoch)

    async def contest(self, claim: OrganizationClaim, place: Place) -> None:
        """Note that nothing is made in a place any more."""
        with translated():
            await self.pool.execute(_SQL["contest_place"], claim.org, *place, self.clock.now(), claim.epoch)

    async def note_refusals(
        self, claim: OrganizationClaim, place: Place, *, plan: Sequence[str], scope: Sequence[str]
    ) -> None:
        """Note which events of a place Calendly refused, and why."""
        with translated():
            await self.pool.execute(
                _SQL["note_refusals"], claim.org, *place, list(plan), list(scope), self.clock.now(), claim.epoch
            )

    async def _changed(self, claim: OrganizationClaim, statement: str, *arguments: object) -> SubscriptionRecord | None:
        with translated():
            row = await self.pool.fetchrow(statement, *arguments)
            if row is None and await self.pool.fetchval(_SQL["has_claim"], claim.org, claim.epoch) is None:
                raise OrganizationClaimLost
        return None if row is None else subscription_of(row)

    async def _told(
        self, claim: OrganizationClaim, statement: str, event: OwnEvent, now: datetime, *arguments: object
    ) -> bool:
        row = own_row(claim.org, event, now)
        async with committing(self.pool, claim.shard) as connection:
            answer = await call_outright(connection, statement, *arguments, now, row, seconds=ACCEPT_SECONDS)
        if answer["position"] == 0:
            raise OrganizationClaimLost
        return answer["position"] is not None


def _state_of(row: Any, losses: dict[Place, list[Loss]]) -> PlaceState:
    refused = dict.fromkeys(row["refused_for_plan"], "plan")
    refused.update(dict.fromkeys(row["refused_for_scope"], "scope"))
    return PlaceState(
        MappingProxyType(refused),
        row["refused_at"],
        row["contested_at"],
        row["resumed_at"],
        tuple(losses.get((row["scope"], row["subject"]), ())),
    )
