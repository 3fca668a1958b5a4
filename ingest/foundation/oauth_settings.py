"""Settings of the OAuth app under which customers connect their Calendly in the browser."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from slotwire.ingest.foundation.settings_base import LOOPBACK, Names, Secrets, SettingsGroup


class OAuthSettings(SettingsGroup):
    """The OAuth app, and the public listener of `control`: `/oauth/calendly/…`, `/approvals/…` and nothing else."""

    host: str = "0.0.0.0"
    """Address to listen on."""
    port: int = Field(8083, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one. Opened only if a client id or `PUBLIC_URL` of this group is set."""
    public_url: str = ""
    """The https address of this listener for browsers, if it is not `SLOTWIRE_PUBLIC_URL`; may have a path. Set without
    a client id, the listener has the pages on which people decide about what agents ask for, and no others."""
    client_id: str = ""
    """The app's client id at Calendly. Unset: nobody connects in the browser. Register the redirect address
    `PUBLIC_URL/oauth/calendly/callback` there."""
    client_secret: SecretStr | None = None
    """The app's secret."""
    signing_keys: Secrets = ()
    """The keys with which Calendly signs deliveries of the app's subscriptions: all valid ones. While a new key takes
    the place of an old one, list both. Change it and restart `control`; subscriptions stay."""
    integrator: str = Field("", max_length=100)
    """Who asks for the connection, or for a decision: shown to the customer before the consent."""
    return_urls: Names = ()
    """Addresses to which a link may send the customer's browser back with a one-time code: https, compared without
    their query."""
    scopes: Names = (
        "users:read",
        "organizations:read",
        "scheduled_events:read",
        "routing_forms:read",
        "webhooks:write",
    )
    """What the customer is asked to allow."""

    @property
    def has_pages(self) -> bool:
        """Whether the listener is there, so that links to its pages can be made."""
        return bool(self.client_id or self.public_url)

    @model_validator(mode="after")
    def _app_is_whole(self) -> Self:
        if self.client_id and not (self.client_secret and self.client_secret.get_secret_value()):
            raise ValueError("SLOTWIRE_OAUTH__CLIENT_ID needs SLOTWIRE_OAUTH__CLIENT_SECRET")
        if self.client_id and not self.signing_keys:
            raise ValueError("SLOTWIRE_OAUTH__CLIENT_ID needs SLOTWIRE_OAUTH__SIGNING_KEYS, or no delivery is accepted")
        if self.client_id and not self.integrator:
            raise ValueError("SLOTWIRE_OAUTH__CLIENT_ID needs SLOTWIRE_OAUTH__INTEGRATOR, the name customers see")
        return self

    @field_validator("return_urls")
    @classmethod
    def _return_urls_are_safe(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            url = urlsplit(each)
            safe = url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)
            if not safe or not url.hostname or url.query or url.fragment or url.username:
                raise ValueError("must be https addresses without a query, for example https://app.example.com/done")
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url_is_safe(cls, value: str) -> str:
        url = urlsplit(value)
        if not value or (url.scheme == "http" and url.hostname in LOOPBACK):
            return value.rstrip("/")
        if url.scheme != "https" or not url.hostname or url.query or url.fragment:
            raise ValueError("must be an https address without a query, for example https://connect.example.com")
        return value.rstrip("/")
