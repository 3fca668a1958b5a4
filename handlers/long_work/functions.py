"""What an author gives to steps and waits: a function that takes a key, and a filter that answers True or False."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from slotwire.schemas.envelope import Event
from slotwire.schemas.events import EventData

D = TypeVar("D", bound=EventData)


def wrong_function(name: str, fn: object) -> str | None:
    """Return what to write in place of a step's function that could not be called, or None.

    It is found before the step begins, for a call with the wrong arguments fails like any error of the function's own.
    """
    if not callable(fn):
        if inspect.iscoroutine(fn):
            fn.close()
        return f"step {name!r} got a {type(fn).__name__} and no function: write `lambda key: …` around what it does"
    try:
        inspect.signature(fn).bind("key")
    except TypeError:
        return f"step {name!r} calls its function with the step's idempotency key alone: write `lambda key: …`"
    except ValueError:  # a function in C that does not say what it takes
        return None
    return None


def taken(where: Callable[[Event[D]], bool] | None, event: Event[D]) -> bool:
    """Return whether an event may end a wait."""
    answer = True if where is None else where(event)
    if type(answer) is not bool:
        raise TypeError(f"wait_for(where=...) returned {type(answer).__name__}, not True or False")
    return answer
