"""mypy and pyright find the mistakes of authors, and nothing in correct handlers or in what authors import."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from slotwire.handlers.author.new_project import make_project
from tests.support.checkers import Findings, mypy, pyright
from tools.sources import ROOT, repository_files

TYPES = Path("tests/support/author_types")
REFUSED = ROOT / TYPES / "refused.py"
EXPECTED = {
    (number, code)
    for number, line in enumerate(REFUSED.read_text(encoding="utf-8").splitlines(), start=1)
    for marks in re.findall(r"# refused: ([\w, -]+)$", line)
    for code in marks.split(", ")
}
OURS = [path for path in repository_files() if path.suffix == ".py" and path.parts[0] in {"handlers", "schemas"}]
UNTYPED = {"reportUntypedFunctionDecorator", "reportUnknownMemberType", "reportUnknownVariableType"}
"""What follows from the mistakes in the same lines."""


@pytest.fixture(scope="module")
def by_mypy(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """What mypy finds in the two modules and in a new project, without the settings of this repository."""
    folder = tmp_path_factory.mktemp("new")
    new = [str(folder / path) for path in make_project("fresh", folder) if path.suffix == ".py"]
    modules = [str(TYPES / "accepted.py"), str(TYPES / "refused.py"), *new]
    return mypy(ROOT, "--config-file=", "--strict", "--explicit-package-bases", *modules)


@pytest.fixture(scope="module")
def by_pyright() -> Findings:
    """What pyright finds in them and in our own modules, as `[tool.pyright]` of this repository says."""
    return pyright(ROOT, "--pythonpath", sys.executable)


def test_mypy_refuses_each_mistake_and_nothing_else(by_mypy: Findings) -> None:
    """Each marked line has its error, and no other line of either module, or of a new project, has one."""
    assert by_mypy.files == 2 + 4
    assert by_mypy.errors == {("refused.py", line, code) for line, code in EXPECTED if not code.startswith("report")}


def test_pyright_refuses_each_mistake_and_nothing_else(by_pyright: Findings) -> None:
    """Each marked line has its error; no other line has one, in either module or in what authors import."""
    assert by_pyright.files == len(OURS) + 2
    marked = {("refused.py", line, code) for line, code in EXPECTED if code.startswith("report")}
    assert by_pyright.errors >= marked, marked - by_pyright.errors
    lines = {line for line, _ in EXPECTED}
    rest = {(name, line, code) for name, line, code in by_pyright.errors - marked if code not in UNTYPED}
    assert not rest
    assert {line for name, line, _ in by_pyright.errors if name == "refused.py"} == lines


def test_the_accepted_handlers_register() -> None:
    """Importing the module registers every handler: the check at import accepts what type checkers accept."""
    agents = runpy.run_path(str(ROOT / TYPES / "accepted.py"))
    assert [len(agents[name].handlers) for name in ("one", "two", "three", "four", "five")] == [5, 2, 2, 5, 2]
