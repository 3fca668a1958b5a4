"""Operations on the records that agents gave up."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate import dead_letter_pages
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.agent_filter import AgentFilter
from slotwire.ingest.operate.cursors import read_id_place, write_id_place
from slotwire.ingest.operate.dead_letter_models import (
    AllLettersRequest,
    DeadLetterDetail,
    DeadLetterItem,
    DeadLetterPage,
    DeadLetterQuery,
    EditRequest,
    LetterDiscardRequest,
    RedriveRequest,
    letter_detail,
    letter_item,
)
from slotwire.ingest.operate.dead_letter_pages import LetterContent, LetterRow
from slotwire.ingest.operate.narrowing import narrowed_by
from slotwire.ingest.operate.roles import Principal, Role
from slotwire.schemas.codec import UndecodableRecord, decode

OLDER = "older than what the agent has done since"
"""The note of a dead letter that was discarded instead of driven again."""


class DeadLetterActions(ResourceActions):
    """Records that agents gave up."""

    async def list(self, who: Principal, query: DeadLetterQuery) -> DeadLetterPage:
        """List dead letters, newest first."""
        who.require(Role.READER)
        state = None if query.state == "all" else query.state
        only = AgentFilter(who.reach(query.organization), query.agent, state)
        before = None if query.cursor is None else read_id_place("dead_letters", query.cursor)
        with narrowed_by(query):
            found = await dead_letter_pages.read_page(self.pool, only, before=before, limit=query.limit + 1)
        more, found = len(found) > query.limit, found[: query.limit]
        cursor = write_id_place("dead_letters", found[-1].id) if more else None
        return DeadLetterPage(items=tuple(map(letter_item, found)), next_cursor=cursor)

    async def get(self, who: Principal, letter: UUID) -> DeadLetterDetail:
        """Read one dead letter. Only operators and admins see what it holds."""
        who.require(Role.READER)
        row, content = await self._one(who, letter)
        return letter_detail(row, content, with_data=who.role.rank >= Role.OPERATOR.rank)

    async def redrive(self, who: Principal, letter: UUID, request: RedriveRequest) -> DeadLetterItem:
        """Drive a dead letter again: its agent alone handles it, after the work of its key that runs.

        What waits already stays as it is. The event takes effect once, however often this is asked for.
        """
        async with self.audited(who, "dead_letters.redrive", org=None, target=letter) as entry:
            who.require(Role.OPERATOR)
            row, _ = await self._one(who, letter)
            entry.org = row.org
            if row.state == "settled":
                raise _settled()
            await self._redrive(who, [letter], request)
            row, _ = await self._one(who, letter)
        return letter_item(row)

    async def redrive_all(self, who: Principal, request: AllLettersRequest) -> DeadLetterPage:
        """Drive all open dead letters of an agent again, in one step: each key's in their order."""
        async with self.audited(who, "dead_letters.redrive_all", org=request.organization, target=request.agent):
            who.require(Role.OPERATOR)
            org, room = who.reach(request.organization), self.settings.agents.max_queued
            ids = await dead_letter_pages.open_ids(self.pool, request.agent, org, request.reason, limit=room)
            await self._redrive(who, ids, request)
        # Small, whatever the number: those that changed are listed like any.
        found = await dead_letter_pages.read_page(
            self.pool, AgentFilter(org, request.agent, "queued"), before=None, limit=50
        )
        return DeadLetterPage(items=tuple(map(letter_item, found)), next_cursor=None)

    async def edit(self, who: Principal, letter: UUID, request: EditRequest) -> DeadLetterItem:
        """Give a dead letter other data, for when it is driven again; the handler is told. The record's own stays."""
        async with self.audited(who, "dead_letters.edit", org=None, target=letter) as entry:
            who.require(Role.OPERATOR)
            row, content = await self._one(who, letter)
            entry.org = row.org
            value = request.value.encode(errors="replace")
            _check(content, value)
            if not await dead_letter_pages.edit(self.pool, letter, who.org, value, by=who.actor, now=self.clock.now()):
                raise _settled()
            row, _ = await self._one(who, letter)
        return letter_item(row)

    async def discard(self, who: Principal, letter: UUID, request: LetterDiscardRequest) -> DeadLetterItem:
        """Mark a dead letter as not wanted. What it holds stays. A second time changes nothing."""
        async with self.audited(who, "dead_letters.discard", org=None, target=letter) as entry:
            who.require(Role.OPERATOR)
            row, _ = await self._one(who, letter)
            entry.org = row.org
            now = self.clock.now()
            await dead_letter_pages.discard(self.pool, [letter], who.org, request.why, older_only=False, now=now)
            row, _ = await self._one(who, letter)
            if row.state != "discarded":
                raise _settled()
        return letter_item(row)

    async def _redrive(self, who: Principal, letters: Sequence[UUID], how: RedriveRequest) -> None:
        older, now, room = not how.discard_older, self.clock.now(), self.settings.agents.max_queued
        if how.drop_journal:
            await dead_letter_pages.drop_journals(self.pool, letters, who.org)
        await dead_letter_pages.redrive(self.pool, letters, who.org, older=older, room=room, now=now)
        if not older:
            await dead_letter_pages.discard(self.pool, letters, who.org, OLDER, older_only=True, now=now)

    async def _one(self, who: Principal, letter: UUID) -> tuple[LetterRow, LetterContent]:
        found = await dead_letter_pages.read_one(self.pool, letter, who.org)
        if found is None:
            raise RequestRefused(
                "there is no such dead letter within reach",
                code="not_found",
                remedy="Give the id of one from `slotwire dead-letters list`.",
            )
        return found


def _check(content: LetterContent, value: bytes) -> None:
    """Refuse data with which the record is no event.

    Raises:
        RequestRefused: with the places where it does not fit.
    """
    headers = [(name, item) for name, item in content.headers if name != "ce_dataref"]
    try:
        decode(headers, value)
    except UndecodableRecord as error:
        raise RequestRefused(
            f"with this data the record is no event: {error}",
            code="data_refused",
            remedy="Give the whole data as JSON, as the schema of its type in schemas/jsonschema/ says.",
        ) from None


def _settled() -> RequestRefused:
    return RequestRefused(
        "it waits to be handled again, or was handled again",
        code="retried_already",
        remedy="`slotwire dead-letters show` says what became of it.",
    )
