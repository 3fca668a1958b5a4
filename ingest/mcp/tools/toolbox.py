"""Lists the tools that a principal has, and runs no other: what somebody was not given does not exist for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import jsonschema

from slotwire.ingest.foundation.errors import (
    ControlUnavailable,
    DatabaseUnavailable,
    RequestRefused,
    SlotwireError,
)
from slotwire.ingest.foundation.telemetry import get_logger
from slotwire.ingest.mcp.arguments import ArgumentsRefused, readable
from slotwire.ingest.mcp.principal import AgentPrincipal
from slotwire.ingest.mcp.tools.results import MAX_BYTES, ToolAnswer, text_of
from slotwire.ingest.mcp.tools.table import Tool

_log = get_logger("mcp")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool.

    Attributes:
        id: of this call, in the audit and at `control`.
        who: whom it acts for.
        tool: which one.
        arguments: as they were sent, and fit the tool's schema.
        confirmed: a person has agreed to what the tool asked.
    """

    id: UUID
    who: AgentPrincipal
    tool: Tool
    arguments: Mapping[str, Any]
    confirmed: bool = False


class AskFirst(Exception):
    """A person has to agree before it is done."""

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = question


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to.

    Attributes:
        text: for a model.
        structured: the same, as the tool's output schema says; None after an error.
        result: `done`, `refused` or `failed`, as the audit has it.
        code: of a refusal or failure.
        target: the URI of what it was about.
        asks: what a person has to agree to first; None where nothing is asked.
    """

    text: str
    structured: Mapping[str, Any] | None = None
    result: str = "done"
    code: str | None = None
    target: str | None = None
    asks: str | None = None


Run = Callable[[Call], Awaitable[ToolAnswer]]


class Bench(Protocol):
    """A group of tools with what runs them."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools, by name."""
        ...

    async def run(self, call: Call) -> ToolAnswer:
        """Run one of them; raises what `Toolbox.run` knows."""
        ...


class Toolbox:
    """All tools there are."""

    def __init__(self, *benches: Bench) -> None:
        self._runs: dict[str, Run] = {name: bench.run for bench in benches for name in bench.tools}
        self.tools: dict[str, Tool] = {name: tool for bench in benches for name, tool in bench.tools.items()}
        self._checks = {
            name: jsonschema.Draft202012Validator(tool.input, format_checker=jsonschema.FormatChecker())
            for name, tool in self.tools.items()
        }

    def find(self, who: AgentPrincipal, name: str) -> Tool | None:
        """Return a tool that a principal has; None if there is none of this name for them."""
        tool = self.tools.get(name)
        if tool is None or name not in who.tools or (who.chain is not None and not tool.of_chains):
            return None
        return tool

    def listed(self, who: AgentPrincipal) -> list[Tool]:
        """Return the tools that a principal has, by name."""
        return [tool for name in sorted(who.tools) if (tool := self.find(who, name)) is not None]

    def read(self, tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any] | Outcome:
        """Return the arguments of a call as its tool takes them; or what the call comes to, where it does not."""
        try:
            found = readable(arguments)
        except ArgumentsRefused as refused:
            return _not_done("arguments_invalid", str(refused), "Correct it and call again.")
        wrong = next(iter(self._checks[tool.name].iter_errors(found)), None)
        if wrong is None:
            return found
        place = "/".join(map(str, wrong.absolute_path)) or "arguments"
        return _not_done("arguments_invalid", f"{place}: {wrong.message[:300]}", "Correct it and call again.")

    async def run(self, call: Call) -> Outcome:
        """Run a tool that was found. Errors become an outcome that says what to do next."""
        try:
            answer = await self._runs[call.tool.name](call)
            structured = answer.structured
            text = text_of(structured)
        except AskFirst as asking:
            return Outcome(asking.question, result="refused", code="asks_first", asks=asking.question)
        except SlotwireError as error:
            return _failed(call.tool, error)
        except Exception as defect:  # noqa: BLE001 - the edge: the library would show its text to whoever called
            _log.error("tool_defect", tool=call.tool.name, call=str(call.id), reason=type(defect).__name__)
            return _not_done("defect", "the server failed on this call", "Tell its operator.", result="failed")
        if len(text) > MAX_BYTES:
            return _not_done("too_long", "the answer is too long", "Ask for less: a smaller limit or a shorter time.")
        return Outcome(text, structured, target=answer.target)


def _failed(tool: Tool, error: SlotwireError) -> Outcome:
    if isinstance(error, RequestRefused):
        return _not_done(error.code, error.message, error.remedy)
    if isinstance(error, ControlUnavailable | DatabaseUnavailable):
        return _not_done("unavailable", error.message, "Call again in a minute.", result="failed")
    _log.error("tool_failed", tool=tool.name, error=error.message)
    return _not_done("failed", "the server is not set up for this", "Tell its operator.", result="failed")


def _not_done(code: str, what: str, next_step: str, *, result: str = "refused") -> Outcome:
    return Outcome(f"Not done ({code}): {what}. {next_step}".strip(), result=result, code=code)
