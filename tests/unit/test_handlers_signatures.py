"""A handler whose event parameter is of another class than it is registered for is refused at import."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, Optional, Protocol, TypeVar, Union

import pytest

from slotwire.handlers import Agent, Context, Event
from slotwire.handlers.signatures import check_handler
from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.events import (
    ContactCreated,
    EventData,
    InviteeCanceled,
    InviteeCreated,
    InviteeRescheduled,
    ResourceEvent,
)

Booking = Union[InviteeCreated, InviteeCanceled]  # noqa: UP007 - an older spelling that authors use
BookingEvent = Event[Booking]
D = TypeVar("D", bound=EventData)
Invitee = TypeVar("Invitee", InviteeCreated, InviteeCanceled)
Free = TypeVar("Free")


class HasSubject(Protocol):
    """What some author's handler needs of an event."""

    subject: str


class Box(Generic[Free]):
    """A class that is no event."""


def handler(annotation: Any) -> Callable[[Any, Any], Awaitable[None]]:
    """Make a handler whose event parameter has this annotation, as an object or as text."""

    async def handle(event: Any, ctx: Any) -> None:
        del event, ctx

    handle.__annotations__["event"] = annotation
    return handle


@pytest.mark.parametrize(
    "annotation",
    [
        Event[InviteeCreated | InviteeCanceled],
        Event[InviteeCreated] | Event[InviteeCanceled],
        Event[Booking],
        BookingEvent,
        Optional[BookingEvent],  # noqa: UP045 - an older spelling that authors use
        Annotated[BookingEvent, "a note"],
        Event[InviteeCreated | InviteeCanceled | InviteeRescheduled],
        Event[EventData],
        Event[Any],
        "Event[D]",
        "Event[Invitee]",
        "Event[Free]",
        Event,
        HasSubject,
        object,
        Any,
        None.__class__ | BookingEvent,
        "Event[Booking]",
        "Event['InviteeCreated | InviteeCanceled']",
        "BookingEvent",
        "Event[NotThereAtRunTime]",
        "1 / 0",
    ],
)
def test_a_parameter_that_takes_the_registered_classes_passes(annotation: Any) -> None:
    """The classes themselves, wider ones, every spelling of them, and what cannot be judged register."""
    agent = Agent("crm")
    handle = handler(annotation)
    agent.on(InviteeCreated, InviteeCanceled)(handle)  # type: ignore[arg-type]  # its annotation is made at run time
    assert agent.handlers[InviteeCreated.type] is handle


@pytest.mark.parametrize(
    ("annotation", "written"),
    [
        (Event[InviteeCreated], "Event[InviteeCreated]"),
        ("Event[InviteeCreated]", "Event[InviteeCreated]"),
        (Event[InviteeCreated] | Event[InviteeRescheduled], "Event[InviteeCreated] | Event[InviteeRescheduled]"),
        (Event[InviteeCreated | InviteeRescheduled], "Event[InviteeCreated | InviteeRescheduled]"),
        (Event[ResourceEvent], "Event[ResourceEvent]"),
        (InviteeCanceled, "InviteeCanceled"),
        ("InviteeCanceled", "InviteeCanceled"),
        (str, "str"),
        (Box[int], "Box[int]"),
    ],
)
def test_a_parameter_of_another_class_is_refused(annotation: Any, written: str) -> None:
    """The error names agent, handler, both classes, and what to write; nothing is registered."""
    agent = Agent("crm")
    with pytest.raises(ConfigurationError) as caught:
        agent.on(InviteeCanceled)(handler(annotation))  # type: ignore[arg-type]  # what is refused
    assert caught.value.message == (
        f"agent crm: handle is registered for InviteeCanceled, but its parameter is `event: {written}`"
    )
    assert caught.value.remedy == "Write `event: Event[InviteeCanceled]`, or name other classes in @agent.on(...)."
    assert not agent.handlers


def test_only_the_classes_that_do_not_fit_are_named_and_all_are_written() -> None:
    """Of several classes the error names those the parameter leaves out; the remedy holds them all."""
    with pytest.raises(ConfigurationError, match="registered for InviteeCanceled, ContactCreated, but") as caught:
        check_handler("crm", handler(Event[InviteeCreated]), (InviteeCreated, InviteeCanceled, ContactCreated))
    assert "`event: Event[InviteeCreated | InviteeCanceled | ContactCreated]`" in caught.value.remedy


def test_a_base_class_lets_in_its_subclasses() -> None:
    """`Event[ResourceEvent]` takes every event about a resource."""
    agent = Agent("crm")

    @agent.on(ContactCreated)
    async def handle(event: Event[ResourceEvent], ctx: Context) -> None:
        del event, ctx

    assert agent.events == (ContactCreated,)


class Handlers:
    """Handlers that are methods."""

    async def right(self, event: Event[InviteeCanceled], ctx: Context) -> None:
        """Take what it is registered for."""

    async def wrong(self, event: Event[InviteeCreated], ctx: Context) -> None:
        """Take something else."""


async def with_setting(setting: str, event: Event[InviteeCreated], ctx: Context) -> None:
    """Take a setting first, bound by `functools.partial`."""


def wrapped(function: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    """Wrap a handler as decorators do."""

    @functools.wraps(function)
    async def wrapper(*args: Any) -> None:
        await function(*args)

    return wrapper


@pytest.mark.parametrize(
    "wrong",
    [Handlers().wrong, wrapped(Handlers().wrong), functools.partial(with_setting, "a")],
    ids=["method", "wrapper", "partial"],
)
def test_methods_partials_and_wrappers_are_looked_through(wrong: Callable[..., Any]) -> None:
    """The event parameter is found where `self`, a bound argument or a wrapper stands before it."""
    with pytest.raises(
        ConfigurationError, match=r"InviteeCanceled, but its parameter is `event: Event\[InviteeCreated"
    ):
        check_handler("crm", wrong, (InviteeCanceled,))
    check_handler("crm", Handlers().right, (InviteeCanceled,))


def test_an_unannotated_parameter_passes() -> None:
    """A handler without annotations registers, and so does one whose other annotations cannot be resolved."""
    scope: dict[str, Any] = {"Event": Event, "InviteeCanceled": InviteeCanceled}
    exec(  # noqa: S102 - annotations that cannot be resolved cannot be written here
        "async def bare(event, ctx): ...\n"
        "async def half(event: 'Event[InviteeCanceled]', ctx: 'Absent') -> 'Absent': ...",
        scope,
    )
    agent = Agent("crm")
    agent.on(InviteeCreated)(scope["bare"])
    agent.on(InviteeCanceled)(scope["half"])
    assert agent.events == (InviteeCreated, InviteeCanceled)


def test_a_named_alias_is_followed() -> None:
    """What Python 3.12's `type` statement names is looked through; here by its one attribute, for older versions."""

    class Alias:
        __value__ = Event[InviteeCreated]

    with pytest.raises(ConfigurationError, match="registered for InviteeCanceled"):
        check_handler("crm", handler(Alias()), (InviteeCanceled,))
    check_handler("crm", handler(Alias()), (InviteeCreated,))
