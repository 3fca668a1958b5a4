"""Agents that come with Slotwire: what they do for an organization is set by whoever manages, not in code.

    agent = ShippedAgent("notify", NotifySettings)

    @agent.on(InviteeCreated)
    async def tell(event: Event[InviteeCreated], ctx: Context) -> Outcome | None:
        settings = await agent.settings(ctx.organization)
        if settings is None:
            return None
        if settings.dry_run:
            return agent.would(ctx, "tell the receiver")
        answer = await agent.outgoing.post(...)

`docs/howto/use-shipped-agents.md` is for whoever runs them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from slotwire.handlers.outcome import Done
from slotwire.handlers.registry import Agent
from slotwire.ingest.foundation.agent_settings import SHIPPED, ShippedSettings, StoredSettings
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.ingest.foundation.telemetry import get_logger

if TYPE_CHECKING:
    from slotwire.handlers.context import Context
    from slotwire.handlers.shipped.settings import SettingsSource
    from slotwire.ingest.foundation.mail_message import SendsMail
    from slotwire.ingest.foundation.outgoing import Outgoing
    from slotwire.ingest.foundation.postgres import Pool
    from slotwire.ingest.foundation.settings import KafkaSettings

FRESH_SECONDS = 10.0
"""How long settings are used after they were read: a change takes effect within this time."""
MAX_CACHED = 10_000
"""Organizations whose settings are kept in memory."""

S = TypeVar("S", bound=ShippedSettings)


@dataclass(frozen=True, slots=True)
class _Known(Generic[S]):
    """Settings as they were read.

    Attributes:
        until: the monotonic time up to which they are used.
        stored: what is kept of them; None where nothing is set.
        settings: what the agent goes by; None where nothing is set, or they are disabled.
    """

    until: float
    stored: StoredSettings | None
    settings: S | None


@dataclass(frozen=True, slots=True)
class Stores:
    """The Postgres and the Kafka of a process.

    Attributes:
        pool: connections of the agents' role.
        kafka: how to reach the broker.
    """

    pool: Pool
    kafka: KafkaSettings


class ShippedAgent(Agent, Generic[S]):
    """An agent that goes by an organization's settings.

    Attributes:
        form: the class of its settings, which `slotwire.ingest.foundation.agent_settings` lists under its name.
        output_folder: where it writes files; None: it writes none.
        attendance_folder: where it finds who came to a meeting; None: nowhere.
        logs_personal_data: whether a dry run may show all that would be sent.
    """

    def __init__(self, name: str, form: type[S], **options: Any) -> None:
        """Make it.

        Args:
            name: as for `Agent`.
            form: the class of its settings.
            options: as for `Agent`.
        """
        super().__init__(name, **options)
        if SHIPPED.get(name) is not form:
            raise ConfigurationError(
                f"the settings of agent {name} are not listed", remedy="Add their class to SHIPPED in agent_settings."
            )
        self.form = form
        self._source: SettingsSource | None = None
        self._outgoing: Outgoing | None = None
        self._mailer: SendsMail | None = None
        self._stores: Stores | None = None
        self._allow_local = False
        self.output_folder: Path | None = None
        self.attendance_folder: Path | None = None
        self.logs_personal_data = False
        self._known: OrderedDict[str, _Known[S]] = OrderedDict()

    def install(
        self,
        source: SettingsSource,
        outgoing: Outgoing,
        *,
        allow_local: bool = False,
        mailer: SendsMail | None = None,
        output_folder: Path | None = None,
        attendance_folder: Path | None = None,
        stores: Stores | None = None,
        logs_personal_data: bool = False,
    ) -> None:
        """Say where its settings are, and how it reaches receivers. Its process does so before the first event.

        Args:
            source: where its settings are.
            outgoing: makes its requests to receivers.
            allow_local: whether receivers may be on this machine.
            mailer: sends its mail; None: it has none to send.
            output_folder: where it writes files; None: it writes none.
            attendance_folder: where it finds who came to a meeting; None: nowhere.
            stores: the process's Postgres and Kafka, for agents that keep more than a handler's transaction does.
            logs_personal_data: whether a dry run may show all that would be sent.
        """
        self._source, self._outgoing, self._allow_local = source, outgoing, allow_local
        self._mailer, self.output_folder, self.attendance_folder = mailer, output_folder, attendance_folder
        self._stores, self.logs_personal_data = stores, logs_personal_data
        self._known.clear()

    @property
    def mailer(self) -> SendsMail:
        """What sends its mail."""
        if self._mailer is None:
            raise RuntimeError(f"agent {self.name} was installed without a mailer: its process gives it one, or a test")
        return self._mailer

    @property
    def outgoing(self) -> Outgoing:
        """What makes requests to receivers: guarded, limited, counted."""
        if self._outgoing is None:
            raise RuntimeError(f"agent {self.name} was not installed: its process does it, or a test")
        return self._outgoing

    @property
    def stores(self) -> Stores:
        """The process's Postgres and Kafka."""
        if self._stores is None:
            raise RuntimeError(f"agent {self.name} was installed without stores: its process gives them, or a test")
        return self._stores

    async def settings(self, organization: str) -> S | None:
        """Return what the agent does for an organization; None where nothing is set, or it is disabled.

        Raises:
            DatabaseUnavailable: Postgres is away. Do not catch it.
            ConfigurationError: they cannot be read. Do not catch it: the event waits until somebody has mended that.
        """
        return (await self._find(organization)).settings

    async def disable(self, organization: str, why: str) -> None:
        """Do nothing more by these settings, until a person sets them again: their receiver is gone.

        Args:
            organization: whose settings were used.
            why: one line for whoever manages, without personal data.

        Raises:
            DatabaseUnavailable: Postgres is away. Do not catch it.
        """
        stored = (await self._find(organization)).stored
        if stored is None or self._source is None:
            return
        await self._source.disable(stored, why)
        self._known.clear()  # those of everybody may be in many places
        log = get_logger("handlers", agent=self.name, organization=stored.org or "all others")
        log.error("settings_disabled", why=why)

    def would(self, ctx: Context, what: str, **facts: object) -> Done:
        """Say in the log what would be done now, and be done with it; no fact may be personal data or a secret."""
        ctx.log.info("dry_run", would=what, **facts)
        return Done()

    async def _find(self, organization: str) -> _Known[S]:
        known = self._known.get(organization)
        if known is None or known.until < monotonic():
            known = await self._read(organization)
            self._known[organization] = known
            self._known.move_to_end(organization)
            if len(self._known) > MAX_CACHED:
                self._known.popitem(last=False)
        return known

    async def _read(self, organization: str) -> _Known[S]:
        if self._source is None:
            raise RuntimeError(f"agent {self.name} was not installed: its process does it, or a test")
        until = monotonic() + FRESH_SECONDS
        found = await self._source.find(self.name, organization)
        if found is None or found[0].disabled_why is not None:
            return _Known(until, None if found is None else found[0], None)
        stored, values = found
        try:
            return _Known(until, stored, self.form.read(values, allow_local=self._allow_local))
        except ConfigurationError as error:
            whose = stored.org or "everybody"
            raise ConfigurationError(
                f"the settings of agent {self.name} for {whose} are not valid any more: {error.message}",
                remedy=f"Set them again: slotwire agents settings set {self.name}",
            ) from None
