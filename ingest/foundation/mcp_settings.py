"""Settings of `slotwire mcp serve`: agents of others reach bookings and Calendly by the Model Context Protocol."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from slotwire.ingest.foundation.settings_base import LOOPBACK, Names, Secrets, SettingsGroup

MAX_TOKEN_SECONDS = 900
"""The longest life of a token: 15 minutes."""


class McpSettings(SettingsGroup):
    """The MCP server, with the token endpoint of its agents."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8084, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    public_url: str = ""
    """The https address at which agents reach this listener, without a path: tokens are bound to it. Unset: the
    listener's own address, which must then be one of this machine."""
    token_keys: Secrets = ()
    """Keys that sign agents' tokens, entries `name:base64url of 32 bytes`, separated by commas: the first signs, all
    are accepted. To change keys put a new one in front, and remove the old one after 15 minutes; set `EVENT_KEYS`
    before, or cursors and webhooks' secrets end with it."""
    event_keys: Secrets = ()
    """Keys of MCP Events, in the same form, of exactly 32 bytes: the first seals webhooks' secrets and writes cursors,
    all open and read. Keep an old one as long as events are kept. Unset: they are derived from the tokens' keys."""
    token_seconds: int = Field(MAX_TOKEN_SECONDS, ge=30, le=MAX_TOKEN_SECONDS)
    """How long a token lives. Revoking an agent ends its tokens at once, whatever this says."""
    control_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """The management API of `slotwire control`, which makes the calls to Calendly: http://control:8081, for example."""
    allowed_origins: Names = ()
    """Web origins whose pages may call, for example `https://inspector.example.com`. A request without `Origin` is not
    a page's. With a public address of this machine, its pages may call, too."""
    max_connections: int = Field(1_000, ge=1)
    """The most open connections; a stream of events holds one. For a further one, the connection that has waited
    longest for its client is closed."""
    max_body_bytes: int = Field(262_144, ge=1024)
    """A longer request is refused with 413."""

    @field_validator("public_url")
    @classmethod
    def _public_url_is_safe(cls, value: str) -> str:
        url = urlsplit(value)
        if not value or (url.scheme == "http" and url.hostname in LOOPBACK and url.path in ("", "/")):
            return value.rstrip("/")
        if url.scheme != "https" or not url.hostname or url.path not in ("", "/") or url.query or url.fragment:
            raise ValueError("must be an https address without a path, for example https://mcp.example.com")
        return value.rstrip("/")
