"""Packages have one name: importing them by a folder's name fails with the right one, and no code names them so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.sources import PACKAGES, ROOT, repository_files

AUTHORS = ("tests/support/author_project/", "tests/acceptance/test_author_project.py")
"""An author's own packages of these names, and how they are loaded."""
SHOWN = ("tests/contract/test_old_names.py", "tests/contract/test_doc_paths.py", "tests/contract/test_layers.py")
"""Where old names are written on purpose, or names of modules below `slotwire`."""
_NAMES = "|".join(PACKAGES)
_REFERENCE = re.compile(rf"(?<![\w./-])(?:{_NAMES})(?:\.[a-z_]+)+(?::\w+)?")
_COMMAND = re.compile(rf"\bfrom +(?:{_NAMES})\b[\w.]* import\b|(?:\bimport|python3? -m|-m\",) +\"?(?:{_NAMES})\b(?!/)")
_FOLDER_FILE = re.compile(rf"(?:{_NAMES})\.(?:md|py|sql|svg|json|toml|yaml)")


def old_names_in_code(text: str) -> Iterator[str]:
    """Yield the imports and the strings of a module that name a package without `slotwire.` in front."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module.partition(".")[0] in PACKAGES:
                yield node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _REFERENCE.fullmatch(node.value) and not _FOLDER_FILE.fullmatch(node.value):
                yield node.value
            yield from _COMMAND.findall(node.value)


def old_names_in_text(text: str) -> list[str]:
    """Return the places where any other file does."""
    references = [name for name in _REFERENCE.findall(text) if not _FOLDER_FILE.fullmatch(name)]
    return [*references, *_COMMAND.findall(text)]


def _read() -> list[Path]:
    """List the files that can name packages: all but those that hold data, hashes or an author's own names."""
    suffixes = {".py", ".toml", ".md", ".yaml", ".yml", ".env", ".example", ".sql", ".cfg", ""}
    files = [path for path in repository_files() if path.suffix in suffixes and not (ROOT / path).is_symlink()]
    return [path for path in files if not path.as_posix().startswith((*AUTHORS, *SHOWN))]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_folders_name_cannot_be_imported(name: str) -> None:
    """From the root of a checkout, where Python finds the folder, the import fails and says the right name."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last == f"ImportError: this package is slotwire.{name}, not {name}: import it under that name"


def test_no_code_and_no_text_has_an_old_name() -> None:
    """Imports, strings, documents, manifests and settings all say `slotwire.…`."""
    files = _read()
    assert {"pyproject.toml", "Dockerfile", "Makefile", "handlers/cli.py", "docs/quickstart.md"} <= set(map(str, files))
    found = {}
    for path in files:
        text = (ROOT / path).read_text(encoding="utf-8")
        names = list(old_names_in_code(text)) if path.suffix == ".py" else old_names_in_text(text)
        if names:
            found[path.as_posix()] = names
    assert not found, "write slotwire. in front"


@pytest.mark.parametrize(
    "line",
    ["import ingest", "from handlers import Agent", "x = 'handlers.agents.demo:agent'", "run('python -m ingest.cli')"],
)
def test_each_form_in_code_is_found(line: str) -> None:
    """Imports, references and commands under an old name are found; the same under the new one are not."""
    assert list(old_names_in_code(line))
    new = re.sub(rf"\b({_NAMES})\b", r"slotwire.\1", line, count=1)
    assert not list(old_names_in_code(new))


@pytest.mark.parametrize(
    "line", ["command: python -m ingest.cli serve", 'root = "handlers.cli:app"', "from schemas import x"]
)
def test_each_form_in_text_is_found(line: str) -> None:
    """So are they in a manifest, in settings and in prose."""
    assert old_names_in_text(line)
    assert not old_names_in_text(re.sub(rf"\b({_NAMES})\b", r"slotwire.\1", line, count=1))
