"""Calendly's operations from `operations.json`: the typed calls, a file for each resource, and their reference page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from slotwire.ingest.control.calendly_client.operations import BODY
from slotwire.ingest.foundation.operation_table import Operation, operations
from tools.generate.calendly_words import EXAMPLES, EXAMPLES_OF, NOUNS, SAID
from tools.sources import ROOT

FOLDER = "ingest/control/calendly_client/api"
PAGE = "docs/reference/calendly-operations.md"
MADE = "Made from `operations.json` by `make generate`."
EXAMPLE_WIDTH = 90
DATES = {"date-time": "datetime", "date": "date"}
KEYWORDS = frozenset({"type", "from"})


@dataclass(frozen=True)
class Argument:
    """One argument of a call.

    Attributes:
        name: Calendly's.
        type: as Python writes it.
        required: whether it must be given.
        place: `path`, `given` (a value of the table) or `body` (a value of a JSON body).
        null: whether None is a value of its own.
    """

    name: str
    type: str
    required: bool
    place: str
    null: bool = False

    @property
    def python(self) -> str:
        """Its name in Python."""
        return f"{self.name}_" if self.name in KEYWORDS else self.name

    @property
    def declared(self) -> str:
        """How the signature has it."""
        if self.required:
            return f"{self.python}: {self.type}"
        if self.null:
            return f"{self.python}: {self.type} | Unset | None = UNSET"
        return f"{self.python}: {self.type} | None = None"


@dataclass
class Shapes:
    """The types of nested values of one file, each once."""

    prefix: str
    made: dict[str, str] = field(default_factory=dict)

    def of(self, schema: Mapping[str, Any], name: str) -> str:
        """Return a value's type as Python writes it."""
        kinds = [schema["type"]] if isinstance(schema.get("type"), str) else list(schema.get("type", ()))
        kinds = [kind for kind in kinds if kind != "null"]
        if schema.get("enum"):
            return f"Literal[{', '.join(repr(each) for each in schema['enum'])}]"
        if len(kinds) != 1:
            return "object"
        kind = kinds[0]
        if kind == "array":
            return f"Sequence[{self.of(schema.get('items', {}), name)}]"
        if kind == "object":
            return self._dict(schema, name) if schema.get("properties") else "Mapping[str, object]"
        if kind == "string" and schema.get("format") in DATES:
            return f"str | {DATES[schema['format']]}"
        return {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}[kind]

    def _dict(self, schema: Mapping[str, Any], name: str) -> str:
        needed = set(schema.get("required", ()))
        parts = []
        for key, each in schema["properties"].items():
            kind = self.of(each, key)
            if isinstance(each.get("type"), list) and "null" in each["type"]:
                kind += " | None"
            parts.append((key, kind if key in needed else f"NotRequired[{kind}]"))
        title = self.prefix + "".join(word.capitalize() for word in name.split("_"))
        inside = ", ".join(f'"{key}": {kind}' for key, kind in parts)
        self.made[title] = f'{title} = TypedDict("{title}", {{{inside}}})'
        return title


def arguments(operation: Operation, shapes: Shapes) -> list[Argument]:
    """Return the arguments of a call, those that must be given first."""
    found = []
    for each in operation.takes:
        if each.name == BODY:
            schema = operation.body_schema or {}
            needed = set(schema.get("required", ()))
            for name, inner in schema.get("properties", {}).items():
                null = isinstance(inner.get("type"), list) and "null" in inner["type"]
                found.append(Argument(name, shapes.of(inner, name), name in needed, "body", null))
            continue
        kind = {"integer": "int", "number": "int", "boolean": "bool", "array": "Sequence[str]"}.get(each.type, "str")
        if each.name.endswith(("_time", "_at")):
            kind = "str | datetime"
        elif each.name == "signing_key":
            kind = "SecretStr"
        found.append(Argument(each.name, kind, each.required, "path" if each.place == "path" else "given"))
    return sorted(found, key=lambda each: (each.place != "path", not each.required))


def example_values(operation: Operation) -> dict[str, Any]:
    """Return the values of an operation's example, by Calendly's names."""
    if operation.name in EXAMPLES_OF:
        return dict(EXAMPLES_OF[operation.name])
    return {each.name: EXAMPLES[each.name] for each in arguments(operation, Shapes("")) if each.required}


def code() -> dict[str, str]:
    """Return the files of the typed calls by their paths from the root."""
    resources = sorted(operations().values(), key=lambda each: each.call.split(".")[0])
    made = {}
    for resource, found in groupby(resources, key=lambda each: each.call.split(".")[0]):
        made[f"{resource}.py"] = _module(resource, list(found))
    made["__init__.py"] = _facade([name.removesuffix(".py") for name in made])
    return {f"{FOLDER}/{name}": text for name, text in _formatted(made).items()}


def page() -> str:
    """Return the reference page of all operations."""
    lines = [
        "# Calendly's operations",
        "",
        "<!-- Made from the code by `make generate`: change the code, not this page. -->",
        "",
        "Every operation of Calendly's REST API, with a typed call and a command. `calendly` is a `CalendlyApi`",
        "on what `Connections.acting` yields; ids may be bare or whole URIs. A list is an async iterator over all",
        "its pages; it ends with an error if a page cannot be read.",
        "What the scopes and plans are: [Calendly](calendly.md#credentials). How to call them by command:",
        "[call Calendly's API](../howto/call-calendly.md).",
        "",
    ]
    for each in sorted(operations().values(), key=lambda each: each.call):
        values = example_values(each)
        plan = f" Plan: {each.plan}." if each.plan else ""
        lines += [
            f"## {each.call}",
            "",
            f"`{each.method} {each.path}`. {_said(each)} Scope: `{each.scope}`.{plan}",
            "",
            "```python",
            _example(each),
            "```",
            "",
            "```sh",
            _command(each, values),
            "```",
            "",
        ]
    return "\n".join(lines)


def _said(operation: Operation) -> str:
    resource, verb = operation.call.split(".")
    if operation.call in SAID:
        return SAID[operation.call]
    one, many = NOUNS.get(resource, (resource.replace("_", " ").removesuffix("s"), resource.replace("_", " ")))
    article = "an" if one[0] in "aeio" else "a"
    if verb == "list":
        return f"List {many}."
    return f"{ {'get': 'Read', 'create': 'Create', 'update': 'Change', 'delete': 'Delete'}[verb] } {article} {one}."


def _class(resource: str) -> str:
    return "".join(word.capitalize() for word in resource.split("_"))


def _module(resource: str, found: Sequence[Operation]) -> str:
    shapes = Shapes(_class(resource).removesuffix("s"))
    methods = [_method(each, shapes) for each in found]
    uses = "\n".join((*methods, *shapes.made.values()))
    forms = sorted({each.gives for each in found if each.gives not in {None, "str"}})
    lines = [
        f'"""Typed calls of `{found[0].path.split("/{")[0]}`. {MADE}"""',
        "",
        "from __future__ import annotations",
        "",
    ]
    abc = [name for name in ("AsyncIterator", "Mapping", "Sequence") if f"{name}[" in uses]
    if abc:
        lines.append(f"from collections.abc import {', '.join(abc)}")
    dates = [name for name in ("date", "datetime") if re.search(rf"\| {name}\b", uses)]
    if dates:
        lines.append(f"from datetime import {', '.join(dates)}")
    typing = [name for name in ("Literal", "NotRequired", "TypedDict") if f"{name}[" in uses or f"{name}(" in uses]
    if typing:
        lines.append(f"from typing import {', '.join(typing)}")
    lines.append("")
    if "SecretStr" in uses:
        lines += ["from pydantic import SecretStr", ""]
    client = "slotwire.ingest.control.calendly_client"
    if forms:
        lines.append(f"from {client}.documents import {', '.join(str(each) for each in forms)}")
    unset = ["UNSET", "ResourceCalls", "Unset", "nullable"] if "UNSET" in uses else ["ResourceCalls"]
    lines += [f"from {client}.typed import {', '.join(unset)}", "", *shapes.made.values(), "", ""]
    lines += [
        f"class {_class(resource)}Calls(ResourceCalls):",
        f'    """Calls of `{found[0].path.split("/{")[0]}`."""',
        "",
    ]
    return "\n".join((*lines, *methods)) + "\n"


def _method(operation: Operation, shapes: Shapes) -> str:
    verb = operation.call.split(".")[1]
    takes = arguments(operation, shapes)
    ids, others = [each for each in takes if each.place == "path"], [each for each in takes if each.place != "path"]
    signature = [
        "self",
        *(each.declared for each in ids),
        *(["*"] if others else []),
        *(each.declared for each in others),
    ]
    given = ", ".join(f'"{each.name}": {each.python}' for each in takes if each.place != "body")
    form = operation.gives or "None"
    arguments_of = f'"{operation.name}"' + ("" if form in {"None", "str"} else f", {form}") + f", {{{given}}}"
    if any(each.place == "body" for each in takes):
        arguments_of += f", {{{', '.join(_in_body(each) for each in takes if each.place == 'body')}}}"
    kind, gives, before = _kind(operation)
    plan = f" Plan: {operation.plan}." if operation.plan else ""
    after = "" if operation.reads else " After `unreachable` and `upstream` it may have been done."
    return "\n".join(
        (
            f"    {before}def {verb}({', '.join(signature)}) -> {gives}:",
            f'        """{_said(operation)}',
            "",
            f"        `{operation.method} {operation.path}`. Scope: `{operation.scope}`.{plan}",
            "",
            "        Example:",
            *(f"            {line}" for line in _example(operation).splitlines()),
            "",
            "        Raises:",
            f"            CalendlyError: see `CalendlyProblem`.{after}",
            "            RequestRefused: a value does not fit (`call_invalid`); nothing was asked.",
            '        """',
            f"        return {'await ' if before else ''}self.{kind}({arguments_of})"
            if form != "None"
            else f"        await self.{kind}({arguments_of})",
            "",
        )
    )


def _in_body(each: Argument) -> str:
    return f'"{each.name}": {f"nullable({each.python})" if each.null else each.python}'


def _kind(operation: Operation) -> tuple[str, str, str]:
    """Return what reads the answer, what that gives, and the word before `def`."""
    if operation.gives is None:
        return "_done", "None", "async "
    if operation.gives == "str":
        return "_text", "str", "async "
    if operation.paged:
        return "_items", f"AsyncIterator[{operation.gives}]", ""
    if operation.listed:
        return "_all", f"tuple[{operation.gives}, ...]", "async "
    return "_one", operation.gives, "async "


def _example(operation: Operation) -> str:
    given = [
        f"{name + '_' if name in KEYWORDS else name}={value!r}".replace("'", '"')
        for name, value in example_values(operation).items()
    ]
    called = f"calendly.{operation.call}({', '.join(given)})"
    if len(called) > EXAMPLE_WIDTH:
        called = "\n".join((f"calendly.{operation.call}(", *(f"    {each}," for each in given), ")"))
    kind = _kind(operation)[0]
    if kind == "_items":
        return f"async for found in {called}:\n    ..."
    return f"await {called}" if kind == "_done" else f"found = await {called}"


def _command(operation: Operation, values: Mapping[str, Any]) -> str:
    parts = ["slotwire calendly", operation.name]
    flat = {each.name for each in operation.takes if each.name != BODY}
    for name, value in values.items():
        if name in flat:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            parts.append(f"{name}={text}" if " " not in text else f"'{name}={text}'")
    if any(each.name == BODY for each in operation.takes):
        body = {name: value for name, value in values.items() if name not in flat}
        parts.append(f"--body '{json.dumps(body)}'")
    parts.append("--organization ORG")
    return " ".join(parts if operation.reads else [*parts, "--write"])


def _facade(resources: Sequence[str]) -> str:
    client = "slotwire.ingest.control.calendly_client"
    lines = [
        f'"""Every operation of Calendly\'s API, as typed calls. {MADE}"""',
        "",
        "from __future__ import annotations",
        "",
        *(f"from {client}.api.{each} import {_class(each)}Calls" for each in resources),
        f"from {client}.transport import CalendlyTransport",
        "",
        '__all__ = ["CalendlyApi"]',
        "",
        "",
        "class CalendlyApi:",
        '    """All of Calendly\'s operations, as the user of one transport."""',
        "",
        "    def __init__(self, calendly: CalendlyTransport) -> None:",
        *(f"        self.{each} = {_class(each)}Calls(calendly)" for each in resources),
    ]
    return "\n".join(lines) + "\n"


def _formatted(files: Mapping[str, str]) -> dict[str, str]:
    """Format files as `make lint` has them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        for verb in (("check", "--fix-only", "--select", "I", "--quiet"), ("format", "--quiet")):
            subprocess.run(
                [
                    Path(sys.executable).parent / "ruff",
                    *verb,
                    "--config",
                    ROOT / "pyproject.toml",
                    "--no-cache",
                    folder,
                ],
                check=True,
            )
        return {file: (folder / file).read_text(encoding="utf-8") for file in files}
