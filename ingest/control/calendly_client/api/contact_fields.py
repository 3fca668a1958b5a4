"""Typed calls of `/contacts/custom_field_definitions`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from slotwire.ingest.control.calendly_client.documents import ContactFieldDefinitionDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls

ContactFieldOptions = TypedDict("ContactFieldOptions", {"label": str})


class ContactFieldsCalls(ResourceCalls):
    """Calls of `/contacts/custom_field_definitions`."""

    async def list(self) -> tuple[ContactFieldDefinitionDocument, ...]:
        """List definitions of contacts' fields.

        `GET /contacts/custom_field_definitions`. Scope: `contacts:read`.

        Example:
            found = await calendly.contact_fields.list()

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._all("list-contact-custom-field-definitions", ContactFieldDefinitionDocument, {})

    async def create(
        self,
        *,
        label: str,
        field_type: str,
        currency: str | None = None,
        options: Sequence[ContactFieldOptions] | None = None,
    ) -> ContactFieldDefinitionDocument:
        """Create a definition of a contacts' field.

        `POST /contacts/custom_field_definitions`. Scope: `contacts:write`.

        Example:
            found = await calendly.contact_fields.create(label="Seats", field_type="number")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "create-contact-custom-field-definition",
            ContactFieldDefinitionDocument,
            {},
            {"label": label, "field_type": field_type, "currency": currency, "options": options},
        )

    async def get(self, uuid: str) -> ContactFieldDefinitionDocument:
        """Read a definition of a contacts' field.

        `GET /contacts/custom_field_definitions/{uuid}`. Scope: `contacts:read`.

        Example:
            found = await calendly.contact_fields.get(uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-contact-custom-field-definition", ContactFieldDefinitionDocument, {"uuid": uuid})
