"""Typed calls of `/invitees`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from slotwire.ingest.control.calendly_client.documents import InviteeDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls

InviteeInvitee = TypedDict(
    "InviteeInvitee",
    {
        "name": NotRequired[str],
        "first_name": NotRequired[str],
        "last_name": NotRequired[str],
        "email": str,
        "timezone": str,
        "text_reminder_number": NotRequired[str],
    },
)
InviteeLocation = TypedDict(
    "InviteeLocation",
    {
        "kind": Literal[
            "ask_invitee",
            "custom",
            "google_conference",
            "gotomeeting_conference",
            "inbound_call",
            "microsoft_teams_conference",
            "outbound_call",
            "physical",
            "webex_conference",
            "zoom_conference",
        ],
        "location": NotRequired[str],
    },
)
InviteeQuestionsAndAnswers = TypedDict("InviteeQuestionsAndAnswers", {"question": str, "answer": str, "position": int})
InviteeTracking = TypedDict(
    "InviteeTracking",
    {
        "utm_campaign": str | None,
        "utm_source": str | None,
        "utm_medium": str | None,
        "utm_content": str | None,
        "utm_term": str | None,
        "salesforce_uuid": str | None,
    },
)


class InviteesCalls(ResourceCalls):
    """Calls of `/invitees`."""

    async def create(
        self,
        *,
        event_type: str,
        start_time: str | datetime,
        invitee: InviteeInvitee,
        location: InviteeLocation | None = None,
        questions_and_answers: Sequence[InviteeQuestionsAndAnswers] | None = None,
        tracking: InviteeTracking | None = None,
        event_guests: Sequence[str] | None = None,
    ) -> InviteeDocument:
        """Book a meeting. It has no idempotency key: if the answer is lost, read before you book again.

        `POST /invitees`. Scope: `scheduled_events:write`.

        Example:
            found = await calendly.invitees.create(
                event_type="EVENT_TYPE",
                start_time="2026-12-01T09:00:00Z",
                invitee={"name": "Ada", "email": "ada@example.com", "timezone": "Europe/London"},
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "post-invitee",
            InviteeDocument,
            {},
            {
                "event_type": event_type,
                "start_time": start_time,
                "invitee": invitee,
                "location": location,
                "questions_and_answers": questions_and_answers,
                "tracking": tracking,
                "event_guests": event_guests,
            },
        )

    async def get(self, event_uuid: str, invitee_uuid: str) -> InviteeDocument:
        """Read an invitee.

        `GET /scheduled_events/{event_uuid}/invitees/{invitee_uuid}`. Scope: `scheduled_events:read`.

        Example:
            found = await calendly.invitees.get(event_uuid="EVENT", invitee_uuid="INVITEE")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "get-scheduled-event-invitees", InviteeDocument, {"event_uuid": event_uuid, "invitee_uuid": invitee_uuid}
        )

    def list(
        self, uuid: str, *, status: str | None = None, sort: str | None = None, email: str | None = None
    ) -> AsyncIterator[InviteeDocument]:
        """List the invitees of a scheduled event.

        `GET /scheduled_events/{uuid}/invitees`. Scope: `scheduled_events:read`.

        Example:
            async for found in calendly.invitees.list(uuid="ID"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-event-invitees", InviteeDocument, {"uuid": uuid, "status": status, "sort": sort, "email": email}
        )
