"""Typed calls of `/invitee_no_shows`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.documents import InviteeNoShowDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class InviteeNoShowsCalls(ResourceCalls):
    """Calls of `/invitee_no_shows`."""

    async def create(self, *, invitee: str) -> InviteeNoShowDocument:
        """Create an invitee no show.

        `POST /invitee_no_shows`. Scope: `scheduled_events:write`.

        Example:
            found = await calendly.invitee_no_shows.create(
                invitee="https://api.calendly.com/scheduled_events/EVENT/invitees/INVITEE",
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("create-invitee-no-show", InviteeNoShowDocument, {"invitee": invitee})

    async def delete(self, uuid: str) -> None:
        """Delete an invitee no show.

        `DELETE /invitee_no_shows/{uuid}`. Scope: `scheduled_events:write`.

        Example:
            await calendly.invitee_no_shows.delete(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("delete-invitee-no-show", {"uuid": uuid})

    async def get(self, uuid: str) -> InviteeNoShowDocument:
        """Read an invitee no show.

        `GET /invitee_no_shows/{uuid}`. Scope: `scheduled_events:read`.

        Example:
            found = await calendly.invitee_no_shows.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-invitee-no-show", InviteeNoShowDocument, {"uuid": uuid})
