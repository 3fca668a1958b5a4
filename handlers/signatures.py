"""What a handler's signature must be, checked when it is registered: before any event comes, with words that help.

A type checker sees the same faults earlier (`registry.Agent.on`); this is for authors who run none.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator, Sequence
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from slotwire.ingest.foundation.errors import ConfigurationError
from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData

EXAMPLE = "@agent.on(InviteeCanceled) above `async def f(event: Event[InviteeCanceled], ctx: Context)`"


class _Unknown(Exception):
    """An annotation does not say which classes it takes; nothing can be concluded from it."""


def check_handler(agent: str, handler: object, classes: Sequence[type[EventData]]) -> None:
    """Refuse a handler that cannot take the events it is registered for.

    An event parameter without annotation passes, and one whose annotation cannot be resolved or judged.

    Args:
        agent: the agent's name.
        handler: what was decorated.
        classes: the event classes it is registered for.

    Raises:
        ConfigurationError: it is no `async def`, does not take two arguments, or its event parameter is annotated
            with other classes.
    """
    name = getattr(handler, "__name__", repr(handler))
    if inspect.isasyncgenfunction(handler):
        raise ConfigurationError(
            f"agent {agent}: {name} has a `yield`, so that it is no handler", remedy="Return Done, Retry or Reject."
        )
    if not inspect.iscoroutinefunction(handler):
        raise ConfigurationError(f"agent {agent}: {name} is not an `async def`", remedy=f"Write {EXAMPLE}.")
    try:
        parameters = inspect.signature(handler).bind(None, None).signature.parameters
    except TypeError:
        raise ConfigurationError(
            f"agent {agent}: {name} does not take (event, ctx)", remedy=f"Write {EXAMPLE}."
        ) from None
    except NameError:  # from Python 3.14 on, where a signature evaluates annotations
        return
    parameter = next(iter(parameters.values()))
    try:
        annotation = _resolved(handler, parameter)
        accepted = tuple(_classes_taken(annotation))
    except _Unknown:
        return
    refused = [cls for cls in classes if not issubclass(cls, accepted)]
    if refused:
        wanted = " | ".join(cls.__name__ for cls in classes)
        raise ConfigurationError(
            f"agent {agent}: {name} is registered for {', '.join(cls.__name__ for cls in refused)},"
            f" but its parameter is `{parameter.name}: {_shown(annotation)}`",
            remedy=f"Write `{parameter.name}: Event[{wanted}]`, or name other classes in @agent.on(...).",
        )


def _resolved(handler: Any, parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation as an object, whatever module and spelling it comes from.

    Only this one is resolved: `ctx: Context` may well be imported for type checkers only.
    """
    if parameter.annotation is inspect.Parameter.empty:
        raise _Unknown
    function = handler
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(getattr(function, "__func__", function))
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {}))
    except Exception as error:
        raise _Unknown from error  # evaluating an author's annotation may raise anything
    return hints[parameter.name]


def _classes_taken(annotation: Any) -> Iterator[type[EventData]]:
    """Yield the event classes an annotation of an event parameter lets in.

    Raises:
        _Unknown: it lets in everything, or does not say.
    """
    for part in _alternatives(annotation):
        origin = get_origin(part) or part
        if part in (Any, Event) or not isinstance(origin, type) or getattr(origin, "_is_protocol", False):
            raise _Unknown  # everything, or something that a type checker has to judge
        if issubclass(origin, Event):
            yield from _classes_carried(get_args(part))
        elif issubclass(Event, origin):
            raise _Unknown  # object
        # Any other class takes no event at all; its author has probably left out `Event[…]`.


def _classes_carried(arguments: Sequence[Any]) -> Iterator[type[EventData]]:
    """Yield the classes of `Event[…]`'s argument."""
    for argument in arguments:
        for part in _alternatives(argument):
            if part is Any or not isinstance(part, type):
                raise _Unknown
            yield part
    if not arguments:
        raise _Unknown  # a subclass that says elsewhere what it carries


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Take unions, named aliases and type variables apart."""
    if isinstance(annotation, TypeVar):
        bounds = annotation.__constraints__ or (annotation.__bound__,)
        for bound in bounds:
            if bound is None or isinstance(bound, typing.ForwardRef):
                raise _Unknown
            yield from _alternatives(bound)
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            if part is not NoneType:
                yield from _alternatives(part)
    elif hasattr(annotation, "__value__"):  # `type Booking = …`, and `Booking[…]` of it
        value, arguments = annotation.__value__, get_args(annotation)
        yield from _alternatives(value[arguments] if arguments else value)
    else:
        yield annotation


def _shown(annotation: Any) -> str:
    """Write an annotation as its author would: without modules."""
    parts = list(_written(annotation))
    return " | ".join(parts)


def _written(annotation: Any) -> Iterator[str]:
    for part in _alternatives(annotation):
        arguments = get_args(part)
        name = getattr(get_origin(part) or part, "__name__", str(part))
        yield f"{name}[{' | '.join(map(_shown, arguments))}]" if arguments else name
