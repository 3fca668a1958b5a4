"""Every command that a document shows, or the code tells somebody to run, exists with every option that is shown."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from slotwire.handlers.shipped.digest.page import _ATTENTION
from slotwire.ingest.cli import app
from tools.documents import ROOT, Command, commands, documents, name_of
from tools.generate import references
from tools.sources import PACKAGES

_TOLD = re.compile(r"(?:`|: |(?<!b)\"|\\n +)(slotwire [a-z][^`\"\\\n]*)")
"""A command in the texts of a module: between backticks, behind a colon, or at the beginning of a line."""
_VALUE = re.compile(r"\{[^{}]*\}")
_VERBS = frozenset({"list", "show"})
"""No argument is called like this."""
_TARGETS = frozenset(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _shown() -> list[tuple[Path, Command]]:
    return [(path, item) for path in documents() for item in commands(path.read_text(encoding="utf-8"))]


@cache
def _tree() -> tuple[Any, dict[str, Any]]:
    """Return the program, and its commands by name."""
    return typer.main.get_command(app), references.commands()


def _problem(words: tuple[str, ...]) -> str | None:
    """Walk a command line down the tree of commands; say what is not there. `COMMAND` stands for any."""
    command, below = _tree()
    rest = list(words[1:])
    while rest and below and not rest[0].startswith(("-", "…")) and rest[0] != "COMMAND":
        if rest[0] not in below:
            return f"no command {rest[0]}"
        command = below[rest.pop(0)]
        below = getattr(command, "commands", {})
    if rest and rest[0] in _VERBS:
        return f"no command {rest[0]}"
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    options = [word.partition("=")[0] for word in rest if word.startswith("--") and "…" not in word]
    unknown = [name for name in options if name not in known]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize(
    ("path", "command"),
    [pair for pair in _shown() if pair[1].words[0].rpartition("/")[2] == "slotwire"],
    ids=lambda part: part.shown if isinstance(part, Command) else name_of(part),
)
def test_shown_commands_exist(path: Path, command: Command) -> None:
    """A `slotwire` command in a document is one the program has."""
    assert _problem(command.words) is None, f"{name_of(path)}: {command.shown}"


def test_the_code_tells_nobody_to_run_what_does_not_exist() -> None:
    """Whatever an error, an answer or a digest says to run is a command that the program has, with those options."""
    paths = [path for package in (*PACKAGES, "tools") for path in sorted((ROOT / package).rglob("*.py"))]
    told = {(path, _VALUE.sub("…", line)) for path in paths for line in _TOLD.findall(path.read_text(encoding="utf-8"))}
    told |= {(ROOT / "handlers/shipped/digest/page.py", f"slotwire {words[2]}") for words in _ATTENTION.values()}
    assert len(told) > 100
    found = {
        (name_of(path), line): problem
        for path, line in told
        for command in commands(f"`{line}`")
        if command.words[0] == "slotwire"
        and (problem := _problem(tuple(word.rstrip(".,;)") for word in command.words)))
    }
    assert not found


@pytest.mark.parametrize(
    ("path", "command"),
    [pair for pair in _shown() if pair[1].words[0] == "make" and len(pair[1].words) > 1],
    ids=lambda part: part.shown if isinstance(part, Command) else name_of(part),
)
def test_shown_targets_exist(path: Path, command: Command) -> None:
    """A `make` target in a document is one the Makefile has."""
    assert command.words[1] in _TARGETS, f"{name_of(path)}: {command.shown}"


def test_unknown_commands_are_noticed() -> None:
    """The check itself finds a command and an option that do not exist."""
    assert _problem(("slotwire", "frobnicate")) == "no command frobnicate"
    assert _problem(("slotwire", "migrate", "--cheque")) == "no option --cheque"
    assert _problem(("slotwire", "migrate", "--check")) is None
    assert _problem(("slotwire", "reconcile", "list")) == "no command list"


_IN_THE_IMAGE = frozenset({"slotwire", "kubectl", "curl", "openssl", "export", "for", "while", "do", "done"})
"""What a runbook may call: our own command, and what an operator has on the way to it."""


def _called(text: str) -> set[str]:
    """Return the programs that the shell blocks of a page call, indented ones too."""
    found = set[str]()
    for block in re.findall(r"^( *)```sh\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n", " ", block[1]).splitlines():
            words = [word for word in line.split() if not re.match(r"^[A-Z_]+=", word)]
            if words and re.match(r"^[a-z][\w.-]*$", words[0]):
                found.add(words[0])
    return found


def test_runbooks_call_what_the_image_has() -> None:
    """At night an operator has a pod of ours: a runbook's programs are those that it has."""
    pages = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    called = {(page.name, program) for page in pages for program in _called(page.read_text(encoding="utf-8"))}
    assert ("relay-cursor-mismatch.md", "slotwire") in called
    assert [(page, program) for page, program in sorted(called) if program not in _IN_THE_IMAGE] == []
