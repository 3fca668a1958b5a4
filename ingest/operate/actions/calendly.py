"""Any operation of Calendly's API, as one of our connections."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from uuid import UUID

from slotwire.ingest.control.calendly_client import operations
from slotwire.ingest.control.calendly_client.operations import PreparedCall
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.control.connection_records import ConnectionRecord
from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.foundation import operation_table
from slotwire.ingest.keys.hooks import masked
from slotwire.ingest.operate.actions.base import ResourceActions
from slotwire.ingest.operate.calendly_models import CallRequest
from slotwire.ingest.operate.roles import Principal, Role

_HOOK = re.compile(r"(/hooks/calendly/)([^/?#]+)")
CANCEL = "create-scheduled-event-cancellation"
"""It cancels a whole meeting: each invitee's booking (docs/reference/calendly.md, "REST")."""


class CalendlyActions(ResourceActions):
    """Calls that a person makes at Calendly."""

    async def call(self, who: Principal, request: CallRequest) -> AsyncIterator[object]:
        """Call an operation, and yield what Calendly answers: each item of a list, else one document or nothing.

        Reading is for operators, changing for admins who say so. Either is in the audit with the operation's name.
        """
        chosen = operation_table.operation(request.operation)
        call = operations.prepare(chosen, request.values, request.body)
        connection = await self._connection(who, request.connection, request.organization)
        async with self.audited(who, "calendly.call", org=connection.org, target=chosen.name):
            who.require(Role.OPERATOR if chosen.reads else Role.ADMIN)
            if not chosen.reads and not request.write:
                as_whom = f"as {connection.user_uri}, of the organization {connection.org}"
                raise RequestRefused(
                    f"{chosen.name} changes something at Calendly: {chosen.method} {call.path} {as_whom}",
                    code="write_not_allowed",
                    remedy="If that is what you want, give --write.",
                )
            async with self.connections(who).acting(connection) as calendly:
                if chosen.name == CANCEL and not request.everyone:
                    await _only_one(calendly, call)
                if not chosen.paged:
                    answer = await operations.perform(calendly, call)
                    if answer is not None:
                        yield without_hooks(answer)
                    return
                left = request.limit
                async for item in operations.items(calendly, call):
                    yield without_hooks(item)
                    left -= 1
                    if left == 0:
                        return

    async def _connection(self, who: Principal, connection: UUID | None, org: str | None) -> ConnectionRecord:
        who.require(Role.READER)
        if connection is not None:
            return await self.connections(who).get(connection, who.reach(org))
        chosen = who.reach(org)
        if chosen is None:
            raise RequestRefused(
                "say as whom: a connection, or an organization whose best connection is taken",
                code="option_invalid",
                remedy="--connection ID or --organization ORG; `slotwire connections list` shows them.",
            )
        return await self.connections(who).for_organization(chosen)


def without_hooks(answer: object) -> object:
    """Mask the hooks in an answer: whoever has one can have deliveries looked up."""
    if isinstance(answer, dict):
        return {
            name: _HOOK.sub(lambda found: found[1] + masked(found[2]), value)
            if name == "callback_url" and isinstance(value, str)
            else without_hooks(value)
            for name, value in answer.items()
        }
    return [without_hooks(each) for each in answer] if isinstance(answer, list) else answer


async def _only_one(calendly: CalendlyTransport, call: PreparedCall) -> None:
    """Refuse to cancel a meeting that holds several people's bookings."""
    meeting = await calendly.exchange("GET", call.path.removesuffix("/cancellation"), doing="reading the meeting")
    counter = meeting["resource"].get("invitees_counter") if isinstance(meeting, dict) else None
    active = counter.get("active") if isinstance(counter, dict) else None
    if not isinstance(active, int) or active > 1:
        people = "an unknown number of people" if not isinstance(active, int) else f"{active} people"
        raise RequestRefused(
            f"this cancels the whole meeting, which {people} have booked",
            code="cancels_everyone",
            remedy="Calendly cannot cancel one of them. If all are to be canceled, give --everyone.",
        )
