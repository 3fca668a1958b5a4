"""Typed calls of `/contacts`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypedDict

from slotwire.ingest.control.calendly_client.documents import ContactDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls

ContactEmails = TypedDict("ContactEmails", {"email": str, "is_primary": bool})
ContactPhoneNumbers = TypedDict("ContactPhoneNumbers", {"phone_number": str})
ContactCustomFields = TypedDict("ContactCustomFields", {"uuid": str, "value": object})


class ContactsCalls(ResourceCalls):
    """Calls of `/contacts`."""

    def list(
        self,
        *,
        sort: str | None = None,
        email: str | None = None,
        phone_number: str | None = None,
        timezone: str | None = None,
        name: str | None = None,
        job_title: str | None = None,
        company: str | None = None,
        country: str | None = None,
        state: str | None = None,
        city: str | None = None,
        contact_list: str | None = None,
        exclude: str | None = None,
    ) -> AsyncIterator[ContactDocument]:
        """List contacts.

        `GET /contacts`. Scope: `contacts:read`.

        Example:
            async for found in calendly.contacts.list():
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-contacts",
            ContactDocument,
            {
                "sort": sort,
                "email": email,
                "phone_number": phone_number,
                "timezone": timezone,
                "name": name,
                "job_title": job_title,
                "company": company,
                "country": country,
                "state": state,
                "city": city,
                "contact_list": contact_list,
                "exclude": exclude,
            },
        )

    async def create(
        self,
        *,
        name: str,
        emails: Sequence[ContactEmails],
        phone_numbers: Sequence[ContactPhoneNumbers] | None = None,
        timezone: str | None = None,
        job_title: str | None = None,
        company: str | None = None,
        country: str | None = None,
        state: str | None = None,
        city: str | None = None,
        linkedin: str | None = None,
        custom_fields: Sequence[ContactCustomFields] | None = None,
    ) -> ContactDocument:
        """Create a contact.

        `POST /contacts`. Scope: `contacts:write`.

        Example:
            found = await calendly.contacts.create(
                name="Ada Lovelace",
                emails=[{"email": "ada@example.com", "is_primary": True}],
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-contact",
            ContactDocument,
            {},
            {
                "name": name,
                "emails": emails,
                "phone_numbers": phone_numbers,
                "timezone": timezone,
                "job_title": job_title,
                "company": company,
                "country": country,
                "state": state,
                "city": city,
                "linkedin": linkedin,
                "custom_fields": custom_fields,
            },
        )

    async def delete(self, uuid: str) -> None:
        """Delete a contact.

        `DELETE /contacts/{uuid}`. Scope: `contacts:write`.

        Example:
            await calendly.contacts.delete(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("delete-contact", {"uuid": uuid})

    async def get(self, uuid: str, *, exclude: str | None = None) -> ContactDocument:
        """Read a contact.

        `GET /contacts/{uuid}`. Scope: `contacts:read`.

        Example:
            found = await calendly.contacts.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-contact", ContactDocument, {"uuid": uuid, "exclude": exclude})

    async def update(
        self,
        uuid: str,
        *,
        name: str | None = None,
        emails: Sequence[ContactEmails] | None = None,
        phone_numbers: Sequence[ContactPhoneNumbers] | None = None,
        timezone: str | None = None,
        job_title: str | None = None,
        company: str | None = None,
        country: str | None = None,
        state: str | None = None,
        city: str | None = None,
        linkedin: str | None = None,
        custom_fields: Sequence[ContactCustomFields] | None = None,
    ) -> ContactDocument:
        """Change a contact. Mail addresses and phone numbers are replaced, custom fields merged.

        `PATCH /contacts/{uuid}`. Scope: `contacts:write`.

        Example:
            found = await calendly.contacts.update(uuid="ID", city="London")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "patch-contacts-uuid",
            ContactDocument,
            {"uuid": uuid},
            {
                "name": name,
                "emails": emails,
                "phone_numbers": phone_numbers,
                "timezone": timezone,
                "job_title": job_title,
                "company": company,
                "country": country,
                "state": state,
                "city": city,
                "linkedin": linkedin,
                "custom_fields": custom_fields,
            },
        )
