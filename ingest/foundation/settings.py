"""Settings: environment variables with the prefix `SLOTWIRE_`, nested by `__`, parsed once and passed on.

An unknown variable is an error that names the nearest known one: a misspelled limit must not silently become the
default. `docs/reference/settings.md` is generated from this file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from slotwire.ingest.foundation.actions_settings import ActionsSettings
from slotwire.ingest.foundation.agents_settings import AgentsSettings
from slotwire.ingest.foundation.changes_settings import ChangesSettings
from slotwire.ingest.foundation.client_address import read_network
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.mail_settings import MailSettings
from slotwire.ingest.foundation.mcp_settings import McpSettings
from slotwire.ingest.foundation.meetings_settings import MeetingsSettings
from slotwire.ingest.foundation.migrate_settings import MigrateSettings
from slotwire.ingest.foundation.oauth_settings import OAuthSettings
from slotwire.ingest.foundation.outgoing_settings import OutgoingSettings
from slotwire.ingest.foundation.reconcile_settings import ReconcileSettings
from slotwire.ingest.foundation.retention_settings import RetentionSettings
from slotwire.ingest.foundation.settings_base import LOOPBACK, PREFIX, Names, Secrets, SettingsGroup
from slotwire.ingest.foundation.subscriptions_settings import SubscriptionsSettings


class HttpSettings(SettingsGroup):
    """The public listener: Calendly's callbacks and nothing else."""

    host: str = "0.0.0.0"
    """Address to listen on."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    max_body_bytes: int = Field(1_048_576, ge=1024)
    """A longer body is refused with 413 before it is verified. The largest delivery seen is 3.9 kB."""
    max_header_bytes: int = Field(16_384, ge=1024)
    """A longer header field or request line is refused with 400 or 431."""
    max_connections: int = Field(2_000, ge=1)
    """The most open connections. For a further one, the connection that has waited longest for its client is closed.
    Lowered at start, with a warning, if the process may not open enough files."""
    max_pending_deliveries: int = Field(5_000, ge=1)
    """The most deliveries waiting for their commit; a further one is answered 503 with Retry-After."""
    max_unwritten_bytes: int = Field(21_474_836_480, ge=1_048_576)
    """The most bytes that may be accepted and not yet written to the log; then deliveries are answered 503. 20 GiB last
    a day at 100 deliveries per second. Keep that much free on Postgres' disk."""
    body_timeout_seconds: float = Field(10.0, gt=0)
    """How long a body may take to arrive; then the answer is 408."""
    answer_deadline_seconds: float = Field(8.0, gt=0, lt=15)
    """How long a commit may take; then the answer is 503. Calendly waits 15 s for an answer."""
    drain_seconds: float = Field(1.0, ge=0)
    """How long a stopping process still accepts requests, answering with `Connection: close`."""
    reuse_port: bool = False
    """Share the port between several `serve` processes on one machine (SO_REUSEPORT)."""
    hook_keys: Secrets = ()
    """Keys for hook addresses, each at least 32 bytes in base64url; the first signs new ones, all are accepted."""
    trusted_proxies: Names = ()
    """Networks of the proxies in front, in CIDR form, IPv4 and IPv6. Behind them, the client that logs name is the last
    entry of `X-Forwarded-For` from outside these networks; otherwise it is the other end of the connection."""

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            try:
                read_network(each)
            except ValueError:
                raise ValueError("must be networks in CIDR form, for example 10.0.0.0/8, fd00::/8") from None
        return value


class ListenSettings(SettingsGroup):
    """A listener for operators."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(0, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""


class AdminSettings(ListenSettings):
    """The management API."""

    port: int = Field(8081, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""


class HealthSettings(ListenSettings):
    """Liveness, readiness and metrics of every process."""

    port: int = Field(8082, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""


class KafkaSettings(SettingsGroup):
    """The broker and the topics."""

    bootstrap_servers: str = ""
    """`host:port`; separate several with commas."""
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    """Prefix of every topic's name."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """The protocol to the broker; without TLS only to a broker on this machine."""
    allow_plaintext: bool = False
    """Connect without TLS to a broker that is not this machine: for a network on which nobody else can listen."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    """Used with the SASL protocols."""
    sasl_username: str | None = None
    """Used with the SASL protocols, except OAUTHBEARER."""
    sasl_password: SecretStr | None = None
    """Used with the SASL protocols, except OAUTHBEARER."""
    token_provider: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """Used with OAUTHBEARER: `package.module:function`, which returns a token and its expiry."""
    ssl_cafile: str | None = None
    """The CA that signed the broker's certificate; the system's CAs if unset."""
    ssl_certfile: str | None = None
    """Our certificate, if the broker asks for one."""
    ssl_keyfile: str | None = None
    """The key of our certificate."""
    partitions: int = Field(12, ge=1, le=10_000)
    """Partitions of each keyed topic, fixed when the topic is created."""
    replication_factor: int = Field(3, ge=1, le=10)
    """Copies of each topic; the embedded broker has one."""
    min_insync_replicas: int = Field(2, ge=1, le=10)
    """Copies that must hold a record before it counts as published."""
    retention_hours: int = Field(720, ge=1)
    """How long topics retain records; 720 h are 30 days. The cursor topic is compacted instead."""

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL"):
            if self.sasl_mechanism == "OAUTHBEARER" and not self.token_provider:
                raise ValueError("OAUTHBEARER needs SLOTWIRE_KAFKA__TOKEN_PROVIDER")
            if self.sasl_mechanism != "OAUTHBEARER" and not (self.sasl_username and self.sasl_password):
                raise ValueError("SASL needs SLOTWIRE_KAFKA__SASL_USERNAME and SLOTWIRE_KAFKA__SASL_PASSWORD")
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError("min_insync_replicas cannot be larger than replication_factor")
        return self


class DatabaseSettings(SettingsGroup):
    """Limits of every connection that writes, all below the deadline for an answer."""

    pool_size: int = Field(4, ge=1, le=100)
    """The most connections in a process's pool. `serve` opens up to two more per shard, a leading `relay` three."""
    connect_timeout_seconds: float = Field(3.0, gt=0)
    """How long opening a connection to one host may take. A second host is tried after a quarter of a second."""
    statement_timeout_seconds: float = Field(5.0, gt=0)
    """The server cancels a statement that runs longer."""
    lock_timeout_seconds: float = Field(3.0, gt=0)
    """The server cancels a statement that waits longer for a lock."""
    ssl_mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """How connections use TLS, unless the address has `sslmode`; unset: `verify-full` if a CA is named, or `prefer`."""
    ssl_cafile: str | None = None
    """The CA that signed the server's certificate, unless the address has `sslrootcert`; the system's CAs if unset."""
    ssl_certfile: str | None = None
    """Our certificate, if the server asks for one, unless the address has `sslcert`."""
    ssl_keyfile: str | None = None
    """The key of our certificate, unless the address has `sslkey`."""
    durable: bool = True
    """Refuse to work on a server that runs with fsync or synchronous_commit off, and so can lose commits."""
    allow_plaintext: bool = False
    """Connect without TLS to a host that is not this machine: for a network on which nobody else can listen."""


class WaitingSettings(SettingsGroup):
    """Facts that arrive without their counterpart: a cleared no-show without its mark, half of a reschedule."""

    publish_after_seconds: float = Field(900.0, gt=0)
    """After this, a cleared no-show is published without its mark, and half of a reschedule is counted."""
    interval_seconds: float = Field(60.0, gt=0)
    """How often the relay looks for them."""


class RelaySettings(SettingsGroup):
    """From the log to Kafka."""

    batch_events: int = Field(500, ge=1, le=10_000)
    """The most events in one transaction."""
    poll_interval_seconds: float = Field(1.0, gt=0)
    """How often the log is read when no notification comes."""
    transaction_timeout_seconds: float = Field(12.0, ge=1, le=60)
    """The broker aborts a transaction that stays open longer."""
    max_record_bytes: int = Field(900_000, ge=1_000)
    """A larger record is published with a reference to its data instead of the data."""


class VaultSettings(SettingsGroup):
    """Keys that seal signing keys and credentials in the database."""

    keys: Secrets = ()
    """Entries `name:base64url of 32 bytes`, separated by commas; the first seals, all open."""
    keys_file: str | None = None
    """A file with the same entries, one per line, for example a mounted secret; use it instead of `KEYS`."""
    keys_provider: str | None = None
    """The entry point in `slotwire.vault_keys` that provides the keys, for a key service; use it instead of `KEYS`."""


class ConnectionsSettings(SettingsGroup):
    """Credentials at Calendly."""

    check_interval_seconds: float = Field(3600.0, ge=10)
    """How often `slotwire control` asks Calendly whether a credential still works; each use asks too."""
    expiring_days: int = Field(14, ge=0, le=365)
    """How long before its expiry a credential counts as `expiring`."""


class CalendlySettings(SettingsGroup):
    """Calendly's addresses."""

    api_url: str = "https://api.calendly.com"
    """Base address of the REST API."""
    auth_url: str = "https://auth.calendly.com"
    """Base address of the OAuth server."""
    assumed_calls_per_minute: int = Field(50, ge=1, le=1_000_000)
    """Calls a minute for a user until an answer of Calendly says the limit; 50 is that of the free plan."""


class LogSettings(SettingsGroup):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is written."""
    format: Literal["json", "text"] = "json"
    """`json`: one object per line; `text`: for a terminal."""
    accepted_ratio: float = Field(0.0, ge=0, le=1)
    """The share of accepted deliveries that `serve` writes a line about; 1 for all. Refusals always have one."""


class TracesSettings(SettingsGroup):
    """Traces: spans of each delivery's way, for a collector that takes OTLP over HTTP."""

    endpoint: str = Field("", pattern=r"^(https?://\S+)?$")
    """The collector's address, for example `http://collector:4318`; needs the extra `traces`. Unset: no spans."""
    sample_ratio: float = Field(1.0, ge=0, le=1)
    """The share of deliveries whose trace is sampled, where the caller does not say; every span of it follows."""
    trust_incoming: bool = True
    """Go on with the trace and the sampling of a `traceparent` that a request brings; else each delivery begins one."""


class MetricsSettings(SettingsGroup):
    """What `slotwire control` reads in Postgres for its metrics, and how long the relay shows what it has read."""

    interval_seconds: float = Field(15.0, ge=1, le=300)
    """How often it reads. What is not read again is shown no more: after twice as long, of the relay after as long."""
    organizations: int = Field(200, ge=0, le=2000)
    """How many organizations, the oldest first, have metrics of their own; all others are shown as one, `others`."""


class LocalSettings(SettingsGroup):
    """The embedded stack."""

    maven_repository: str | None = None
    """A Maven mirror to download the broker's jars from."""
    clock_file: Path | None = None
    """The file in which `slotwire simulate serve --clock-file` shows its clock: the process goes by that one. Refused
    unless `SLOTWIRE_PUBLIC_URL` and both addresses of Calendly are loopback ones."""


class Settings(BaseSettings):
    """All settings of a process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr = SecretStr("")
    """`postgresql://user:password@host/database`; you may name several hosts for failover."""
    public_url: str = ""
    """The address at which Calendly reaches `serve`; https, except for a loopback simulator; may have a path."""
    http: HttpSettings = HttpSettings()
    oauth: OAuthSettings = OAuthSettings()
    admin: AdminSettings = AdminSettings()
    retention: RetentionSettings = RetentionSettings()
    health: HealthSettings = HealthSettings()
    database: DatabaseSettings = DatabaseSettings()
    migrate: MigrateSettings = MigrateSettings()
    kafka: KafkaSettings = KafkaSettings()
    waiting: WaitingSettings = WaitingSettings()
    relay: RelaySettings = RelaySettings()
    agents: AgentsSettings = AgentsSettings()
    mcp: McpSettings = McpSettings()
    vault: VaultSettings = VaultSettings()
    calendly: CalendlySettings = CalendlySettings()
    connections: ConnectionsSettings = ConnectionsSettings()
    subscriptions: SubscriptionsSettings = SubscriptionsSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    changes: ChangesSettings = ChangesSettings()
    actions: ActionsSettings = ActionsSettings()
    meetings: MeetingsSettings = MeetingsSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    mail: MailSettings = MailSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()
    local: LocalSettings = LocalSettings()

    @model_validator(mode="after")
    def _retention_covers_the_topics(self) -> Self:
        least = -(-self.kafka.retention_hours // 24)
        for kind in ("events", "inbox"):
            days = getattr(self.retention, f"{kind}_days")
            if days is not None and days < least:
                raise ValueError(
                    f"{PREFIX}RETENTION__{kind.upper()}_DAYS is {days}, and the topics keep records for {least} days:"
                    f" give it at least {least}, or shorten {PREFIX}KAFKA__RETENTION_HOURS"
                )
        return self

    @model_validator(mode="after")
    def _what_is_local_stays_here(self) -> Self:
        local = {"LOCAL__CLOCK_FILE": self.local.clock_file, "OUTGOING__ALLOW_LOCAL": self.outgoing.allow_local}
        addresses = (self.public_url, self.calendly.api_url, self.calendly.auth_url)
        elsewhere = any(urlsplit(each).hostname not in LOOPBACK for each in addresses)
        for name in (name for name, value in local.items() if value and elsewhere):
            raise ValueError(
                f"{PREFIX}{name} is for a simulated Calendly: {PREFIX}PUBLIC_URL, {PREFIX}CALENDLY__API_URL"
                f" and {PREFIX}CALENDLY__AUTH_URL must be addresses of this machine"
            )
        return self

    @field_validator("public_url")
    @classmethod
    def _public_url_is_safe(cls, value: str) -> str:
        if not value:
            return value
        url = urlsplit(value)
        if url.scheme == "http" and url.hostname in LOOPBACK:
            return value.rstrip("/")
        if url.scheme != "https" or not url.hostname or url.query or url.fragment:
            raise ValueError("must be an https address without a query, for example https://hooks.example.com")
        return value.rstrip("/")


def _variable(loc: tuple[int | str, ...]) -> str:
    """Return the variable at a place in the settings; nothing for one that several set."""
    return (PREFIX + "__".join(map(str, loc))).upper() if loc else ""


def known_variables() -> frozenset[str]:
    """Return the name of every environment variable the settings read."""
    names: set[str] = set()
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, SettingsGroup):
            names.update(f"{PREFIX}{name}__{inner}".upper() for inner in group.model_fields)
        else:
            names.add(f"{PREFIX}{name}".upper())
    return frozenset(names)


def settings_of(variables: Mapping[str, str]) -> Settings:
    """Parse settings from variables; the environment plays no part."""
    top: dict[str, object] = {}
    groups: dict[str, dict[str, str]] = {}
    for name, value in variables.items():
        group, _, field = name.removeprefix(PREFIX).lower().partition("__")
        if field:
            groups.setdefault(group, {})[field] = value
        else:
            top[group] = value
    return Settings(_env_prefix=f"{PREFIX}NEVER_SET_", **(top | groups))  # type: ignore[arg-type]  # pydantic reads the groups from dictionaries


def load_settings() -> Settings:
    """Parse the environment once.

    Raises:
        ConfigurationError: a variable is unknown or its value is not valid. Values are never shown.
    """
    known = known_variables()
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else "docs/reference/settings.md lists the settings."
            raise ConfigurationError(f"unknown setting {name}", remedy=f"{hint} If not, unset it.")
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            ": ".join(filter(None, (_variable(issue["loc"]), issue["msg"])))
            for issue in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise ConfigurationError(
            "; ".join(lines), remedy="Correct the named settings; docs/reference/settings.md describes them."
        ) from None
