"""Agents: named groups of handlers, and how they are loaded by name."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, overload

from slotwire.handlers.loading import imported
from slotwire.handlers.long_work.versions import JournalMigration
from slotwire.handlers.outcome import Outcome
from slotwire.handlers.policy import GiveUpLimit, RetryPolicy, Start
from slotwire.handlers.schedules import Schedules
from slotwire.handlers.shipped_names import reference_of
from slotwire.handlers.signatures import EXAMPLE, check_handler
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData
from slotwire.schemas.topics import Topic

if TYPE_CHECKING:
    from slotwire.handlers.context import Context

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""The form of an agent's name, which becomes part of the names of topics and of the consumer group."""
VERSION = re.compile(r"[A-Za-z0-9._-]{0,40}")
DEFAULT_TIMEOUT_SECONDS = 300.0
MAX_CONCURRENCY = 90
"""A database pool has 100 connections at most, and the runtime needs some of them itself."""

Handler = Callable[[Event[Any], "Context"], Coroutine[Any, Any, Outcome | None]]

A = TypeVar("A", bound=EventData)
B = TypeVar("B", bound=EventData)
C = TypeVar("C", bound=EventData)
D = TypeVar("D", bound=EventData)
E = TypeVar("E", bound=EventData)
X = TypeVar("X", bound=Event[Any])
W = TypeVar("W", bound=Event[Any])
R = TypeVar("R", bound=Outcome | None)

Hook = Callable[[], Coroutine[Any, Any, None]]
"""Opens or closes what an agent holds while it runs."""

Where: TypeAlias = Callable[[W], bool]
"""Says whether a handler takes an event."""


class Registration(Protocol[X]):
    """Takes the handler below `@agent.on(A, B)`: its event parameter must let in `X`, here `Event[A] | Event[B]`.

    So do `Event[A | B]`, `Event[EventData]` and `Event[Any]`, too.
    """

    def __call__(
        self, handler: Callable[[X, Context], Coroutine[Any, Any, R]], /
    ) -> Callable[[X, Context], Coroutine[Any, Any, R]]:
        """Register the handler, and return it as it is."""
        ...


class Agent(Schedules):
    """A named group of handlers with a consumer group of its own.

        agent = Agent("crm")

        @agent.on(InviteeCanceled)
        async def free_the_slot(event: Event[InviteeCanceled], ctx: Context) -> Done | Retry | None:
            ...

    Attributes:
        name: up to 63 lower-case letters, digits and dashes. An agent with a new name is a new agent.
        version: of the agent's code, in its log lines and dead letters. Runs that were set aside end on the version
            that they began on: after a change, `takes_over` says how.
        start: where a new agent begins: at the oldest event that Kafka has (`earliest`), at what is published from its
            first start on (`latest`), or at a time with a zone. It counts once for each topic, when the agent is new.
        retry: when a handler that failed is tried again.
        limit: how many events may be given up before the agent stops.
        timeout_seconds: a handler that runs longer is interrupted, and the run has failed.
        concurrency: the most runs at once in a process; the pool of database connections grows with it. None: as many
            as keys may be in work (`SLOTWIRE_AGENTS__MAX_IN_FLIGHT`).
        organization_concurrency: the most runs at once in a process for one organization.
        grace_seconds: how long running handlers may take to finish when the process stops; None: as the setting
            `SLOTWIRE_AGENTS__STOP_GRACE_SECONDS` says.
        reference: `package.module:name`, once it was loaded by it; empty before.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        name: str,
        *,
        version: str = "",
        start: Start = "earliest",
        retry: RetryPolicy | None = None,
        limit: GiveUpLimit | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        concurrency: int | None = None,
        organization_concurrency: int | None = None,
        grace_seconds: float | None = None,
    ) -> None:
        called: object = name
        if not (isinstance(called, str) and NAME.fullmatch(called)):
            raise ConfigurationError(
                f"{name!r} cannot be an agent's name",
                remedy="Use up to 63 lower-case letters, digits and dashes, a letter first.",
            )
        if start not in {"earliest", "latest"} and not (isinstance(start, datetime) and start.tzinfo is not None):
            raise ConfigurationError(
                f"agent {name} cannot start at {start!r}",
                remedy='Use "earliest", "latest", or a time with a zone: datetime(2026, 11, 23, tzinfo=UTC).',
            )
        said: object = version
        if not (isinstance(said, str) and VERSION.fullmatch(said)):
            raise ConfigurationError(
                f"agent {name} cannot have the version {version!r:.60}",
                remedy="Use up to 40 letters, digits, dots, dashes and underscores.",
            )
        _check_limits(name, retry=retry, limit=limit)
        _check_numbers(name, timeout_seconds, grace_seconds, at_once=(concurrency, organization_concurrency))
        super().__init__()
        self.name = name
        self.version = version
        self.start: Start = start
        self.retry = retry or RetryPolicy()
        self.limit = limit or GiveUpLimit()
        self.timeout_seconds = timeout_seconds
        self.concurrency = concurrency
        self.organization_concurrency = organization_concurrency
        self.grace_seconds = grace_seconds
        self._home: Path | None = None
        self.reference = ""
        self._starting: list[Hook] = []
        self._stopping: list[Hook] = []
        self._filters: dict[str, Where[Any]] = {}
        self._classes: list[type[EventData]] = []
        self._takeovers: dict[str, Agent | JournalMigration] = {}
        self._shown = MappingProxyType(self._handlers)

    # Without the overloads mypy would take two classes for their common base, and refuse `Event[A | B]`.
    @overload
    def on(self, first: type[A], /, *, where: Where[Event[A]] | None = None) -> Registration[Event[A]]: ...
    @overload
    def on(
        self, first: type[A], second: type[B], /, *, where: Where[Event[A] | Event[B]] | None = None
    ) -> Registration[Event[A] | Event[B]]: ...
    @overload
    def on(
        self,
        first: type[A],
        second: type[B],
        third: type[C],
        /,
        *,
        where: Where[Event[A] | Event[B] | Event[C]] | None = None,
    ) -> Registration[Event[A] | Event[B] | Event[C]]: ...
    @overload
    def on(
        self,
        first: type[A],
        second: type[B],
        third: type[C],
        fourth: type[D],
        /,
        *,
        where: Where[Event[A] | Event[B] | Event[C] | Event[D]] | None = None,
    ) -> Registration[Event[A] | Event[B] | Event[C] | Event[D]]: ...
    @overload
    def on(
        self,
        first: type[A],
        second: type[B],
        third: type[C],
        fourth: type[D],
        fifth: type[E],
        /,
        *,
        where: Where[Event[A] | Event[B] | Event[C] | Event[D] | Event[E]] | None = None,
    ) -> Registration[Event[A] | Event[B] | Event[C] | Event[D] | Event[E]]: ...
    @overload
    def on(self, *classes: type[D], where: Where[Event[D]] | None = None) -> Registration[Event[D]]: ...
    def on(self, *classes: type[EventData], where: Where[Any] | None = None) -> Registration[Any]:
        """Register the handler below for events of these classes, from `slotwire.schemas.events`.

        Type checkers compare up to five classes with the handler's event parameter; all are compared when the
        module is imported.

        Args:
            classes: the event classes.
            where: which events the handler takes, asked before anything else: True or False, from the event alone,
                without I/O. Anything else, or an exception, is a failed run, never a skip.

        Raises:
            ConfigurationError: no class is named, one is not an event class or has a handler already; or the handler is
                not an `async def` with two parameters of which the first takes these events.
        """
        if not classes:
            raise ConfigurationError(f"agent {self.name}: @agent.on() names no event", remedy=f"Write {EXAMPLE}.")
        for cls in classes:
            self._check_class(cls)
        given: object = where
        if given is not None and (not callable(given) or inspect.iscoroutinefunction(given)):
            raise ConfigurationError(
                f"agent {self.name}: where= takes a function that answers at once, not {where!r:.60}",
                remedy='Write where=lambda event: event.origin == "webhook", for example.',
            )

        def register(
            handler: Callable[[Event[Any], Context], Coroutine[Any, Any, R]], /
        ) -> Callable[[Event[Any], Context], Coroutine[Any, Any, R]]:
            check_handler(self.name, handler, classes)
            for cls in classes:
                self._handlers[cls.type] = handler
                self._classes.append(cls)
                if where is not None:
                    self._filters[cls.type] = where
            return handler

        return register

    def _check_class(self, cls: object) -> None:
        if inspect.isroutine(cls):
            raise ConfigurationError(f"agent {self.name}: @agent.on names no event", remedy=f"Write {EXAMPLE}.")
        if not (isinstance(cls, type) and issubclass(cls, EventData) and hasattr(cls, "type")):
            raise ConfigurationError(
                f"agent {self.name}: @agent.on() takes event classes, not {cls!r}",
                remedy="Import one from slotwire.schemas.events, for example InviteeCanceled.",
            )
        if cls.type in self._handlers:
            raise ConfigurationError(
                f"agent {self.name} has two handlers for {cls.__name__}",
                remedy="An agent handles each event once: call both from one handler, or make a second agent.",
            )

    def on_start(self, hook: Hook | None = None, /) -> Hook:
        """Run an `async def` without parameters before the first event: it opens what the handlers use.

        If it raises, the agent is not ready, and it runs again after a pause. Several run in their order.
        """
        checked = self._checked(hook)
        self._starting.append(checked)
        return checked

    def on_stop(self, hook: Hook | None = None, /) -> Hook:
        """Run an `async def` without parameters after the last handler has ended. Several run in the reverse order."""
        checked = self._checked(hook)
        self._stopping.insert(0, checked)
        return checked

    def _checked(self, hook: Hook | None) -> Hook:
        if hook is None or not inspect.iscoroutinefunction(hook) or inspect.signature(hook).parameters:
            raise ConfigurationError(
                f"agent {self.name}: a hook is an `async def` without parameters",
                remedy="Write @agent.on_start above `async def open_client() -> None`.",
            )
        return hook

    @property
    def home(self) -> Path | None:
        """The folder of its module, as it was loaded, or that of its first handler's module."""
        if self._home is not None or not self._handlers:
            return self._home
        file = inspect.getsourcefile(inspect.unwrap(next(iter(self._handlers.values()))))
        return None if file is None else Path(file).parent

    def set_home(self, folder: Path) -> None:
        """Say which module it was loaded from."""
        self._home = folder

    @property
    def hooks(self) -> tuple[Sequence[Hook], Sequence[Hook]]:
        """What runs at its start, and what at its stop."""
        return tuple(self._starting), tuple(self._stopping)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by the events' types, and scheduled work by the types of its firings."""
        return self._shown

    def takes(self, event: Event[Any]) -> object:
        """Ask whether the handler takes an event of its type; True without a filter. A filter may answer anything."""
        where = self._filters.get(event.type)
        return True if where is None else where(event)

    def takes_over(self, version: str, how: Agent | JournalMigration) -> None:
        """Say how runs end that began on an older version: with its own handlers, or with these and a migration.

        Raises:
            ConfigurationError: it is this agent's own version, or the other agent is not of that name and version.
        """
        wrong = isinstance(how, Agent) and (how.name, how.version) != (self.name, version)
        if version == self.version or wrong:
            raise ConfigurationError(
                f"agent {self.name} {self.version} cannot take over runs of version {version} like this",
                remedy=f'Name an older version, and for its code Agent("{self.name}", version="{version}").',
            )
        self._takeovers[version] = how

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions whose runs it finishes: its own, and those that it takes over."""
        return (self.version, *self._takeovers)

    def code_of(self, version: str) -> Agent | None:
        """Return the agent whose handlers a run of a version goes on with; None where it takes none over."""
        how = self._takeovers.get(version)
        return how if isinstance(how, Agent) else self if version in self.versions else None

    def migration_of(self, version: str) -> JournalMigration | None:
        """Return what became of the names in journals of a version, where this agent's code goes on with them."""
        how = self._takeovers.get(version)
        return how if isinstance(how, JournalMigration) else None

    @property
    def events(self) -> tuple[type[EventData], ...]:
        """The classes it handles, in the order they were registered."""
        return tuple(self._classes)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics it reads, without the prefix of the settings."""
        return tuple(dict.fromkeys(cls.topic for cls in self._classes))


def _check_limits(agent: str, **given: object) -> None:
    for what, value in given.items():
        kind = RetryPolicy if what == "retry" else GiveUpLimit
        if value is not None and not isinstance(value, kind):
            raise ConfigurationError(
                f"agent {agent}: {what}= takes a {kind.__name__}, not {value!r:.60}",
                remedy=f"Write {what}={kind.__name__}(...), from slotwire.handlers.policy.",
            )


def _check_numbers(agent: str, *seconds: object, at_once: Sequence[object]) -> None:
    for most in at_once:
        if most is not None and not (isinstance(most, int) and 1 <= most <= MAX_CONCURRENCY):
            raise ConfigurationError(
                f"agent {agent} cannot run {most!r:.60} handlers at once", remedy=f"Give 1 to {MAX_CONCURRENCY}."
            )
    for limit in seconds:
        if limit is not None and not (isinstance(limit, int | float) and 0 <= limit < math.inf):
            raise ConfigurationError(f"agent {agent} cannot have a limit of {limit!r:.60} s", remedy="Give seconds.")


def group_name(prefix: str, agent: Agent) -> str:
    """Return the name of an agent's consumer group; the prefix is that of the topics."""
    return prefix + agent.name


def load_agent(reference: str) -> Agent:
    """Import an agent by `package.module:name`, or one that comes with Slotwire by its bare name.

    Modules are looked up in the working directory first.

    Raises:
        ConfigurationError: there is no such module or name, it is not an agent, or it has no handler.
    """
    reference = reference_of(reference)
    module_name, colon, name = reference.partition(":")
    if not (colon and module_name and name):
        raise ConfigurationError(
            f"{reference} does not name an agent",
            remedy="Write package.module:agent, for example my_agents.crm:agent, or the name of a shipped one.",
        )
    module = imported(module_name, name)
    agent = getattr(module, name, None)
    if not isinstance(agent, Agent):
        found = [key for key, value in vars(module).items() if isinstance(value, Agent)]
        hint = f"It has: {', '.join(found)}." if found else 'Make one there: agent = Agent("name").'
        raise ConfigurationError(f"{module_name} has no agent called {name}", remedy=hint)
    if not agent.handlers:
        raise ConfigurationError(f"agent {agent.name} has no handler", remedy=f"Write {EXAMPLE}.")
    agent.reference = reference
    if module.__file__ is not None:
        agent.set_home(Path(module.__file__).parent)
    return agent


def load_agents(references: Sequence[str]) -> tuple[Agent, ...]:
    """Import several agents.

    Raises:
        ConfigurationError: as `load_agent`; or two agents have the same name, and so the same consumer group.
    """
    agents = tuple(load_agent(reference) for reference in references)
    names = [agent.name for agent in agents]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigurationError(
            f"two of the agents are called {double}", remedy="The name is the consumer group: give each agent its own."
        )
    return agents
