"""Typed calls of `/contact_lists`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import Sequence

from slotwire.ingest.control.calendly_client.documents import ContactListDocument, ContactListMembershipDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class ContactListsCalls(ResourceCalls):
    """Calls of `/contact_lists`."""

    async def list(self, *, type_: str | None = None) -> tuple[ContactListDocument, ...]:
        """List contact lists.

        `GET /contact_lists`. Scope: `contacts:read`.

        Example:
            found = await calendly.contact_lists.list()

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all("list-contact-lists", ContactListDocument, {"type": type_})

    async def create(self, *, name: str, contacts: Sequence[str] | None = None) -> ContactListDocument:
        """Make a list. Contacts that cannot be put on it are counted in `membership_result`.

        `POST /contact_lists`. Scope: `contacts:write`.

        Example:
            found = await calendly.contact_lists.create(name="Customers")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("create-contact-list", ContactListDocument, {"name": name, "contacts": contacts})

    async def get(self, uuid: str) -> ContactListDocument:
        """Read a contact list.

        `GET /contact_lists/{uuid}`. Scope: `contacts:read`.

        Example:
            found = await calendly.contact_lists.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-contact-list", ContactListDocument, {"uuid": uuid})

    async def update(self, uuid: str, *, name: str) -> ContactListDocument:
        """Change a contact list.

        `PATCH /contact_lists/{uuid}`. Scope: `contacts:write`.

        Example:
            found = await calendly.contact_lists.update(uuid="ID", name="Customers")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("update-contact-list", ContactListDocument, {"uuid": uuid, "name": name})

    async def add(self, uuid: str, *, contacts: Sequence[str]) -> ContactListMembershipDocument:
        """Put contacts on a list. Who is on it already stays.

        `POST /contact_lists/{uuid}/memberships`. Scope: `contacts:write`.

        Example:
            found = await calendly.contact_lists.add(uuid="ID", contacts=["CONTACT"])

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "add-contacts-to-static-list", ContactListMembershipDocument, {"uuid": uuid, "contacts": contacts}
        )

    async def remove(self, uuid: str, *, contacts: Sequence[str]) -> ContactListMembershipDocument:
        """Take contacts off a list.

        `POST /contact_lists/{uuid}/memberships/removal`. Scope: `contacts:write`.

        Example:
            found = await calendly.contact_lists.remove(uuid="ID", contacts=["CONTACT"])

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "remove-contacts-from-static-list", ContactListMembershipDocument, {"uuid": uuid, "contacts": contacts}
        )
