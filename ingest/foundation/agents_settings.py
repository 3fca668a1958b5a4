"""The settings of `slotwire agents run`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from slotwire.ingest.foundation.settings_base import Names, Secrets, SettingsGroup


class AgentsSettings(SettingsGroup):
    """The consumer runtime."""

    group_instance_id: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """A stable name of this member, for example the pod's, so that a rolling restart moves no partitions."""
    max_in_flight: int = Field(500, ge=1)
    """The most keys whose events a member handles at once."""
    max_held: int = Field(2_000, ge=1)
    """The most events a member holds in memory: those that it handles, and those behind them of the same keys. Past it
    a slow key delays the others of its partition. Never less than `max_in_flight`."""
    max_queued: int = Field(10_000, ge=1)
    """The most events of an agent that wait in Postgres for a later attempt, or behind one; then partitions hold."""
    max_queued_per_key: int = Field(1_000, ge=1)
    """The same of one key."""
    session_timeout_seconds: float = Field(20.0, ge=6, le=30)
    """A member that sends no heartbeat for longer loses its partitions."""
    stop_grace_seconds: float = Field(10.0, ge=0)
    """How long running handlers may take to finish when the process stops."""
    claim_seconds: float = Field(15.0, ge=1, le=300)
    """How long after a process has died in a step of a run the step's outcome counts as unknown. The clocks of the
    processes may differ by a small part of it."""
    control_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """The management API of `slotwire control`, for `ctx.calendly`: it makes the calls, agents hold no credential."""
    organization_readers: Names = ()
    """Of `slotwire control`: names of agents that may list an organization's event types, and read open slots and busy
    times of all its users, for example `availability-sync`. Each agent's process says its name itself."""
    log_messages: bool = False
    """Log the message of what a handler raised, which may hold personal data. On the local stack it is logged."""
    settings_keys: Secrets = ()
    """Keys that seal what is secret in the settings of shipped agents, for `control` and for the process that runs
    them: entries `name:base64url of 32 bytes`, separated by commas; the first seals, all open."""
    output_folder: Path | None = None
    """Where shipped agents write files, one folder per organization. Unset: none does."""
    attendance_folder: Path | None = None
    """Where `no-show-sweeper` finds who came: a file per organization, `ORG.csv` or `ORG.json`."""
