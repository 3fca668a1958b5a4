"""Typed calls of `/sample_webhook_data`. Made from `operations.json` by `make generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from pydantic import SecretStr

from slotwire.ingest.control.calendly_client.documents import SampleDeliveryDocument, WebhookSubscriptionDocument
from slotwire.ingest.control.calendly_client.typed import ResourceCalls


class WebhookSubscriptionsCalls(ResourceCalls):
    """Calls of `/sample_webhook_data`."""

    async def sample(
        self, *, event: str, organization: str, scope: str, user: str | None = None, group: str | None = None
    ) -> SampleDeliveryDocument:
        """Read a made-up delivery. Never take it for a real one.

        `GET /sample_webhook_data`. Scope: `webhooks:read`.

        Example:
            found = await calendly.webhook_subscriptions.sample(
                event="invitee.created",
                organization="ORG",
                scope="organization",
            )

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "get-sample-webhook-data",
            SampleDeliveryDocument,
            {"event": event, "organization": organization, "scope": scope, "user": user, "group": group},
        )

    def list(
        self,
        *,
        organization: str,
        scope: str,
        user: str | None = None,
        group: str | None = None,
        sort: str | None = None,
    ) -> AsyncIterator[WebhookSubscriptionDocument]:
        """List webhook subscriptions.

        `GET /webhook_subscriptions`. Scope: `webhooks:read`.

        Example:
            async for found in calendly.webhook_subscriptions.list(organization="ORG", scope="organization"):
                ...

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return self._items(
            "list-webhook-subscriptions",
            WebhookSubscriptionDocument,
            {"organization": organization, "scope": scope, "user": user, "group": group, "sort": sort},
        )

    async def create(
        self,
        *,
        url: str,
        events: Sequence[str],
        organization: str,
        scope: str,
        user: str | None = None,
        group: str | None = None,
        signing_key: SecretStr | None = None,
    ) -> WebhookSubscriptionDocument:
        """Subscribe. Slotwire's own subscriptions are made by `slotwire subscriptions`.

        `POST /webhook_subscriptions`. Scope: `webhooks:write`.

        Example:
            found = await calendly.webhook_subscriptions.create(
                url="https://slots.example.com/hooks/ours",
                events=["invitee.created"],
                organization="ORG",
                scope="organization",
            )

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one(
            "createwebhooks",
            WebhookSubscriptionDocument,
            {
                "url": url,
                "events": events,
                "organization": organization,
                "scope": scope,
                "user": user,
                "group": group,
                "signing_key": signing_key,
            },
        )

    async def delete(self, webhook_uuid: str) -> None:
        """Delete a webhook subscription.

        `DELETE /webhook_subscriptions/{webhook_uuid}`. Scope: `webhooks:write`.

        Example:
            await calendly.webhook_subscriptions.delete(webhook_uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`. After `unreachable` and `upstream` it may have been done.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        await self._done("delete-webhook-subscription", {"webhook_uuid": webhook_uuid})

    async def get(self, webhook_uuid: str) -> WebhookSubscriptionDocument:
        """Read a webhook subscription.

        `GET /webhook_subscriptions/{webhook_uuid}`. Scope: `webhooks:read`.

        Example:
            found = await calendly.webhook_subscriptions.get(webhook_uuid="ID")

        Raises:
            CalendlyError: see `CalendlyProblem`.
            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.
        """
        return await self._one("get-webhook-subscription", WebhookSubscriptionDocument, {"webhook_uuid": webhook_uuid})
