"""The drawings in `ingest/errors.py` are the code: the tree of our exceptions, and who catches those of libraries."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from slotwire import handlers, ingest, schemas
from slotwire.ingest import errors
from slotwire.ingest.errors import SlotwireError
from tools.sources import ROOT

LIBRARIES = ("asyncpg", "aiokafka", "httpx")
_BRANCH = re.compile(r"^ {4}(?P<lines>(?:│   |    )*)[├└]── (?P<name>\w+) +(?P<said>.*)$")


def drawn_tree(drawing: str) -> dict[str, str]:
    """Read a drawn tree: each exception's parent, by name."""
    parents, path = dict[str, str](), ["SlotwireError"]
    for line in drawing.splitlines():
        if found := _BRANCH.match(line):
            depth = len(found["lines"]) // 4 + 1
            path = [*path[:depth], found["name"]]
            parents[found["name"]] = path[depth - 1]
    return parents


def tree_of(root: type[BaseException]) -> dict[str, str]:
    """Read the tree from the classes of the product: each exception's parent, by name."""
    parents = dict[str, str]()
    for child in root.__subclasses__():
        if child.__module__.startswith("slotwire."):
            parents |= {child.__name__: root.__name__, **tree_of(child)}
    return parents


def drawn_seams(drawing: str) -> dict[str, set[str]]:
    """Read which files may catch exceptions of which library."""
    seams, library = dict[str, set[str]](), ""
    for line in drawing.splitlines():
        if found := re.match(r"^ {4}(\w+)? +([\w/]+\.py)(?: |$)", line):
            library = found[1] or library
            seams.setdefault(library, set()).add(found[2])
    return seams


def caught(source: str) -> set[str]:
    """Tell of which libraries a module catches exceptions, by `except` or `suppress`, constants it names included."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).partition(".")[0]: alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            names |= {alias.asname or alias.name: node.module for alias in node.names}
    libraries = {name: _library(module) for name, module in names.items() if _library(module)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and (held := _named(node.value, libraries)):
            libraries |= {target.id: held.copy().pop() for target in node.targets if isinstance(target, ast.Name)}
    return {library for expression in _catching(tree) for library in _named(expression, libraries)}


def _library(module: str) -> str:
    top = module.partition(".")[0]
    return top if top in LIBRARIES else ""


def _catching(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            yield node.type
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress":
            yield from node.args


def _named(expression: ast.AST, libraries: Mapping[str, str]) -> set[str]:
    return {libraries[node.id] for node in ast.walk(expression) if isinstance(node, ast.Name) and node.id in libraries}


def product_sources() -> dict[str, str]:
    """Read every module of the product, by its path below the repository's root."""
    folders = (ROOT / name for name in ("ingest", "handlers", "schemas"))
    paths: list[Path] = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def found_seams(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Find which files catch exceptions of which library."""
    seams: dict[str, set[str]] = {library: set() for library in LIBRARIES}
    for path, source in sources.items():
        for library in caught(source):
            seams[library].add(path.removeprefix("ingest/"))
    return seams


def test_the_tree_is_drawn_whole() -> None:
    """Every exception of the product is drawn below its parent, and nothing else is."""
    for package in (ingest, handlers, schemas):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
    assert drawn_tree(errors.__doc__ or "") == tree_of(SlotwireError)


def test_an_exception_that_is_not_drawn_is_seen() -> None:
    """The comparison notices a missing branch, one too many, and one below another parent."""
    whole = errors.__doc__ or ""
    actual = tree_of(SlotwireError)
    branch = next(line for line in whole.splitlines() if "── TopicUnavailable" in line)
    assert drawn_tree(whole.replace(branch, "")) != actual
    assert drawn_tree(whole.replace(branch, f"{branch}\n{branch.replace('TopicUnavailable', 'Another')}")) != actual
    assert drawn_tree(whole.replace(branch, branch.replace("│   └──", "├──"))) != actual


def test_exceptions_of_libraries_are_caught_where_it_says() -> None:
    """The files that catch exceptions of asyncpg, aiokafka and httpx are exactly the listed ones."""
    assert found_seams(product_sources()) == drawn_seams(errors.__doc__ or "")


def test_the_architecture_names_the_same_files() -> None:
    """The row of "Where a line of code belongs" names every file that catches a library's exceptions."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    [row] = [line for line in page.splitlines() if line.startswith("| catches an exception of ")]
    assert set(re.findall(r"`ingest/([\w/]+\.py)`", row)) == set().union(*drawn_seams(errors.__doc__ or "").values())


@pytest.mark.parametrize(
    ("source", "libraries"),
    [
        ("import asyncpg\ntry: ...\nexcept (OSError, asyncpg.PostgresError): ...", {"asyncpg"}),
        ("import asyncpg as pg\ntry: ...\nexcept pg.exceptions.InvalidPasswordError: ...", {"asyncpg"}),
        ("from aiokafka import errors\ntry: ...\nexcept errors.KafkaError: ...", {"aiokafka"}),
        ("from aiokafka.errors import KafkaError\nSOME = (KafkaError,)\ntry: ...\nexcept SOME: ...", {"aiokafka"}),
        ("import httpx\nfrom contextlib import suppress\nwith suppress(httpx.HTTPError): ...", {"httpx"}),
        ("def f():\n    import httpx\n    try: ...\n    except httpx.HTTPError: ...", {"httpx"}),
        ("import asyncpg\nfrom ours import DatabaseUnavailable\ntry: ...\nexcept DatabaseUnavailable: ...", set()),
        ("from aiokafka import errors\nif code in {errors.NoError}: ...", set()),
    ],
)
def test_a_catch_elsewhere_is_seen(source: str, libraries: set[str]) -> None:
    """A catch is found under an alias, in a constant, in `suppress` and in a function; a mention alone is none."""
    assert caught(source) == libraries
    planted = found_seams({"ingest/log/planted.py": source})
    assert {library for library, files in planted.items() if files == {"log/planted.py"}} == libraries
