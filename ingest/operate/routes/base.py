"""The parts of a route: its parsed request, its response, and its description."""

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
    """The query is not valid; the message says which fields."""

    def __init__(self, error: ValidationError) -> None:
        found = invalid("parameter_invalid", error)
        super().__init__("; ".join(found.errors), code="parameter_invalid", remedy=found.remedy or "")


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """An authenticated request, parsed.

    Attributes:
        who: the caller.
        path: the variables of the path.
        parameters: the query's parameters, each once.
        body: the bytes of the body.
    """

    who: Principal
    path: Mapping[str, str]
    parameters: Mapping[str, str]
    body: bytes = field(repr=False)

    def query(self, form: type[M]) -> M:
        """Read the query.

        Raises:
            RequestRefused: it is not valid; an unknown parameter is not valid either.
        """
        try:
            return form.model_validate(self.parameters)
        except ValidationError as error:
            raise ParametersInvalid(error) from None

    def id(self) -> UUID:
        """Read the id in the path.

        Raises:
            RequestRefused: with code `not_found`: it is not an id.
        """
        try:
            return UUID(self.path["id"])
        except ValueError:
            raise RequestRefused("there is nothing with this id", code="not_found", remedy="Check the id.") from None


@dataclass(frozen=True, slots=True)
class RouteResponse:
    """The response of a route.

    Attributes:
        content: the body.
        status: 200, or 201 if something was created.
    """

    content: BaseModel
    status: int = 200


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        method: in upper case.
        path: with `{variables}`.
        summary: what it does, in one sentence.
        role: the lowest role that may use it.
        run: handles the request; the audit and the document take the name of the operation from its name.
        gives: the model of the response.
        query: the model of its parameters.
        takes: the model of its body.
        statuses: its statuses of success.
        everywhere: whether it takes only keys that reach all organizations.
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
    everywhere: bool = False

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return self.method != "GET"

    @property
    def repeatable(self) -> bool:
        """Whether it accepts an `Idempotency-Key`. Other methods can be repeated anyway."""
        return self.method == "POST"

    @property
    def noun(self) -> str:
        """Its resource: the name of its file."""
        return self.run.__module__.rpartition(".")[2]

    @property
    def action(self) -> str:
        """`noun.verb`, as in the audit: the name of its file and the name of `run`."""
        return f"{self.noun}.{self._verb}"

    @property
    def operation(self) -> str:
        """Its unique name in the document: `list_keys`, `create_key`; a name of several words stays as it is."""
        if "_" in self._verb:
            return self._verb
        return f"{self._verb}_{self.noun if self._verb == 'list' else self.noun.removesuffix('s')}"

    @property
    def _verb(self) -> str:
        name: str = getattr(self.run, "__name__", "")
        return name.removeprefix("_")
