"""Typed calls of `/users/me`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from slotwire.ingest.control.calendly_client.documents import UserDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class UsersCalls(ResourceCalls):
    """Calls of `/users/me`."""

    async def me(self) -> UserDocument:
        """Read the token's user.

        `GET /users/me`. Scope: `users:read`.

        Example:
            found = await calendly.users.me()

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-current-user", UserDocument, {})

    async def get(self, uuid: str) -> UserDocument:
        """Read a user.

        `GET /users/{uuid}`. Scope: `users:read`.

        Example:
            found = await calendly.users.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-user", UserDocument, {"uuid": uuid})
