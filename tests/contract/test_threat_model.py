"""The threat model in SECURITY.md: every attacker has a row, and every test that it relies on exists."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

import pytest

from slotwire.ingest.foundation.migrations import PROCESSES
from tests.support.manifests import PLAIN
from tools.sources import ROOT, repository_files


@dataclass(frozen=True)
class Attacker:
    """A row of the table: who, what is reached, what stops them and what does not, and the tests that show it."""

    who: str
    reaches: str
    stopped_by: str
    not_stopped: str
    shown_by: str

    @property
    def tests(self) -> list[str]:
        """The names of the tests."""
        return re.findall(r"`(\w+)`", self.shown_by)


def attackers() -> list[Attacker]:
    """Read the table."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Threat model\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [Attacker(*row) for row in rows[1:]]


def names_of_all_tests() -> set[str]:
    """List the names of all test functions."""
    return {
        node.name
        for path in repository_files()
        if path.parts[0] == "tests" and path.name.startswith("test_")
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


EVERYBODY = attackers()
every_attacker = pytest.mark.parametrize("attacker", EVERYBODY, ids=[row.who for row in EVERYBODY])


@pytest.fixture(scope="module")
def suite() -> set[str]:
    """The names of all test functions."""
    return names_of_all_tests()


@every_attacker
def test_each_row_is_shown_by_tests_that_exist(attacker: Attacker, suite: set[str]) -> None:
    """Every cell says something, and every test that is named is a test of this suite."""
    assert all((attacker.who, attacker.reaches, attacker.stopped_by, attacker.not_stopped))
    assert attacker.tests, "name a test that shows it"
    assert not set(attacker.tests) - suite, "rename it here too"


def test_every_process_has_a_row() -> None:
    """Each process that the manifests run is taken over once, and so is the one that a component adds."""
    taken = {name for row in EVERYBODY for name in re.findall(r"^`(\w+)`, taken over$", row.who)}
    assert taken == {name.partition("-")[0] for name in PLAIN} | {"mcp"}
    assert set(PROCESSES) <= taken


def test_what_one_machine_does_not_defend_is_said() -> None:
    """Who shares a machine with the local stack learns what others can use."""
    (row,) = [row for row in EVERYBODY if "slotwire local" in row.who]
    assert "simulator" in row.not_stopped
    assert "Kafka" in row.not_stopped
