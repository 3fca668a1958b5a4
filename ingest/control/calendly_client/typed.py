"""What the typed calls in `api/` share: values become a call of the table, and its answer becomes a model.

`api/` is made from `operations.json` by `make generate`: a class for each resource, a method for each operation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from slotwire.ingest.control.calendly_client import operations
from slotwire.ingest.control.calendly_client.transport import CalendlyTransport
from slotwire.ingest.errors import CalendlyError, CalendlyProblem
from slotwire.ingest.foundation.operation_table import operation

M = TypeVar("M", bound=BaseModel)


class _Unset(Enum):
    UNSET = "unset"
    NULL = "null"


Unset = Literal[_Unset.UNSET]
UNSET: Final = _Unset.UNSET
"""Not given, where None means null."""


def nullable(value: object) -> object:
    """Return how a body has a value for which None means null."""
    return _Unset.NULL if value is None else None if value is UNSET else value


class ResourceCalls:
    """The calls of one resource, as one user."""

    def __init__(self, calendly: CalendlyTransport) -> None:
        self._calendly = calendly

    async def _items(self, name: str, form: type[M], given: Mapping[str, object]) -> AsyncIterator[M]:
        """Read a list page after page.

        Raises:
            CalendlyError: see `CalendlyProblem`; an item is not as documented (`unexpected`).
        """
        async for item in operations.items(self._calendly, _call(name, given)):
            yield _read(name, form, item)

    async def _one(
        self, name: str, form: type[M], given: Mapping[str, object], body: Mapping[str, object] | None = None
    ) -> M:
        return _read(name, form, _unwrapped(await self._perform(name, given, body)))

    async def _all(
        self, name: str, form: type[M], given: Mapping[str, object], body: Mapping[str, object] | None = None
    ) -> tuple[M, ...]:
        found = _unwrapped(await self._perform(name, given, body))
        return tuple(_read(name, form, item) for item in (found if isinstance(found, list) else [found]))

    async def _done(self, name: str, given: Mapping[str, object]) -> None:
        await self._perform(name, given, None)

    async def _text(self, name: str, given: Mapping[str, object]) -> str:
        found = _unwrapped(await self._perform(name, given, None))
        if not isinstance(found, str):
            raise _odd(name, "text")
        return found

    async def _perform(self, name: str, given: Mapping[str, object], body: Mapping[str, object] | None) -> Any:
        return await operations.perform(self._calendly, _call(name, given, body))


def _call(name: str, given: Mapping[str, object], body: Mapping[str, object] | None = None) -> operations.PreparedCall:
    """Put a call together. Values that are None are not given.

    Raises:
        RequestRefused: one does not fit (`call_invalid`).
    """
    values = {key: _texts(value) for key, value in given.items() if value is not None}
    chosen = operation(name)
    if body is None:
        return operations.prepare(chosen, values)
    return operations.prepare(chosen, values, {key: _plain(each) for key, each in body.items() if each is not None})


def _texts(value: object) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(_plain(value))]


def _plain(value: object) -> object:
    """Return a value as JSON has it: times in UTC."""
    plain: object = value
    match value:
        case _Unset.NULL:
            plain = None
        case SecretStr():
            plain = value.get_secret_value()
        case datetime():
            plain = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            plain = value.isoformat()
        case Mapping():
            plain = {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            plain = [_plain(each) for each in value]
    return plain


def _unwrapped(answer: Any) -> Any:
    """Return what an answer is about, in whichever envelope it comes."""
    if isinstance(answer, dict):
        for name in ("resource", "collection"):
            if name in answer and len(answer) <= 2:
                return answer[name]
    return answer


def _read(name: str, form: type[M], document: object) -> M:
    try:
        return form.model_validate(document)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, issue["loc"])) or "body" for issue in error.errors()[:3])
        raise _odd(name, places) from None


def _odd(name: str, places: str) -> CalendlyError:
    return CalendlyError(
        f"{name}: the answer does not have the documented form, at: {places}",
        problem=CalendlyProblem.UNEXPECTED,
        remedy="`slotwire calendly` shows the answer as it came. Tell us, so that we can read it.",
    )
