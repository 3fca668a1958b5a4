"""What a route is made of: the request taken apart, the answer, and what the document says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from slotwire.ingest.errors import RequestRefused
from slotwire.ingest.operate.actions import Actions
from slotwire.ingest.operate.problems import invalid
from slotwire.ingest.operate.roles import Principal, Role

ORG_FORM = "[A-Za-z0-9_-]{1,200}"
"""An organization in a path: the last segment of Calendly's organization URI."""

M = TypeVar("M", bound=BaseModel)


class ParametersInvalid(RequestRefused):
    """The query does not fit; carries where."""

    def __init__(self, error: ValidationError) -> None:
        found = invalid("parameter_invalid", error)
        super().__init__("; ".join(found.errors), code="parameter_invalid", remedy=found.remedy or "")


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """One authenticated request, taken apart.

    Attributes:
        who: whoever asks.
        path: the path's variables.
        parameters: the query's parameters, each once.
        body: the body's octets.
    """

    who: Principal
    path: Mapping[str, str]
    parameters: Mapping[str, str]
    body: bytes = field(repr=False)

    def query(self, form: type[M]) -> M:
        """Read the query.

        Raises:
            RequestRefused: it does not fit; an unknown parameter does not either.
        """
        try:
            return form.model_validate(self.parameters)
        except ValidationError as error:
            raise ParametersInvalid(error) from None

    def id(self) -> UUID:
        """Read the id in the path; what is no id names nothing.

        Raises:
            RequestRefused: with code `not_found`.
        """
        try:
            return UUID(self.path["id"])
        except ValueError:
            raise RequestRefused("there is nothing of this id", code="not_found", remedy="Check the id.") from None


@dataclass(frozen=True, slots=True)
class RouteResponse:
    """What a route gives.

    Attributes:
        content: the answer's body.
        status: 200 unless something was made.
    """

    content: BaseModel
    status: int = 200


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        method: in upper case.
        path: with `{variables}`.
        summary: what it does, in one line.
        role: the least role that may.
        run: does it.
        gives: the form of the answer.
        query: the form of its parameters.
        takes: the form of its body.
        statuses: what it answers when it works.
    """

    method: str
    path: str
    summary: str
    role: Role
    run: Callable[[Actions, RouteRequest], Awaitable[RouteResponse]]
    gives: type[BaseModel]
    query: type[BaseModel] | None = None
    takes: type[BaseModel] | None = None
    statuses: tuple[int, ...] = (200,)

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self.method != "GET"

    @property
    def repeatable(self) -> bool:
        """Whether it takes an `Idempotency-Key`: the others may be sent twice anyway."""
        return self.method == "POST"

    @property
    def noun(self) -> str:
        """What it is about: the name of its file."""
        return self.run.__module__.rpartition(".")[2]

    @property
    def action(self) -> str:
        """`noun.verb`, as the audit writes it: the file of the route and the name of what runs it."""
        return f"{self.noun}.{self._verb}"

    @property
    def operation(self) -> str:
        """Its name in the document, unique: `list_keys`, `create_key`; a longer name is taken as it is."""
        if "_" in self._verb:
            return self._verb
        return f"{self._verb}_{self.noun if self._verb == 'list' else self.noun.removesuffix('s')}"

    @property
    def _verb(self) -> str:
        name: str = getattr(self.run, "__name__", "")
        return name.removeprefix("_")
