"""Typed calls of `/teams`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from slotwire.ingest.control.calendly_client.documents import TeamDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class TeamsCalls(ResourceCalls):
    """Calls of `/teams`."""

    def list(self, *, user: str | None = None) -> AsyncIterator[TeamDocument]:
        """List teams.

        `GET /teams`. Scope: `organizations:read`.

        Example:
            async for found in calendly.teams.list():
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items("list-teams", TeamDocument, {"user": user})

    async def get(self, team_uuid: str) -> TeamDocument:
        """Read a team.

        `GET /teams/{team_uuid}`. Scope: `organizations:read`.

        Example:
            found = await calendly.teams.get(team_uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-team", TeamDocument, {"team_uuid": team_uuid})
