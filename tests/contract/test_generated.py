"""The references that are made from the code: fresh, whole, and without gaps in what they say."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from slotwire.ingest.cli import app
from slotwire.ingest.foundation.settings import known_variables
from slotwire.ingest.foundation.telemetry import REGISTRY
from tests.support.tidy import SourceFile
from tools.generate.references import commands, pages
from tools.sources import ROOT, repository_files


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Every generated page by its path."""
    return pages()


def rows(page: str) -> list[list[str]]:
    """Return the rows of a page's tables, without their heads."""
    lines = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in page.splitlines() if line.startswith("|")]
    return [cells for cells in lines if cells[0].startswith("`")]


def test_all_are_fresh(made: dict[str, str]) -> None:
    """The pages in the repository are those that the code makes now."""
    stale = [name for name, text in made.items() if (ROOT / name).read_text(encoding="utf-8") != text]
    assert not stale, "run `make generate` and commit what it wrote"


def test_every_setting_is_described(made: dict[str, str]) -> None:
    """Each known variable has one row that says what it means."""
    found = rows(made["docs/reference/settings.md"])
    assert sorted(row[0].strip("`") for row in found) == sorted(known_variables())
    assert not [row[0] for row in found if not row[3].endswith(".")], "give the field a docstring"


def test_every_metric_is_described(made: dict[str, str]) -> None:
    """Each declared metric has one row that says what it means, under a name of ours with its unit."""
    found = rows(made["docs/reference/metrics.md"])
    assert len(found) == len(list(REGISTRY.collect()))
    assert all(row[0].startswith("`slotwire_") and row[4] for row in found)
    assert all(row[3] for row in found), "say by `of` which processes show it"
    assert all(row[0].endswith("_total`") == (row[1] == "counter") for row in found)


def test_every_command_is_described(made: dict[str, str]) -> None:
    """Each command of `slotwire --help` has its section, and each option its meaning."""
    page = made["docs/reference/commands.md"]
    told = CliRunner().invoke(app, ["--help"]).output
    names = set(re.findall(r"^│? ?([a-z][a-z-]*) {2,}", told, re.MULTILINE))
    assert {"serve", "relay", "agents"} <= names
    for name in names:
        assert f"## `slotwire {name}`\n\n" in page, name
    called = CliRunner().invoke(app, ["agents", "--help"]).output
    below = set(re.findall(r"^│ ([a-z]+) {2,}", called, re.MULTILINE))
    assert {"run", "runs", "settings", "approvals", "schedule"} <= below == set(commands()["agents"].commands)
    assert not [name for name in below if f"### `slotwire agents {name}`\n" not in page], "also of other packages"
    assert not [row[0] for row in rows(page) if not row[2]], "give the option a help text"


def test_no_file_names_a_setting_that_does_not_exist() -> None:
    """Documents, manifests, messages and code name only settings that are known; tests may invent some."""
    lost = {
        (path.as_posix(), name)
        for path in repository_files()
        if path.parts[0] != "tests"
        for name in re.findall(r"\bSLOTWIRE_[A-Z0-9_]*[A-Z0-9]\b", SourceFile.read(ROOT, path).text)
        if name not in known_variables()
    }
    assert not lost


def test_no_document_names_a_metric_that_does_not_exist() -> None:
    """What runbooks tell to look at is there, by its name with or without Prometheus' endings; other names apart."""
    names = {metric.name for metric in REGISTRY.collect()}
    lost = {
        (path.as_posix(), name)
        for path in repository_files()
        if path.suffix == ".md" or path.parts[:2] == ("k8s", "monitoring")
        for name in re.findall(r"\bslotwire_[a-z0-9_]+", SourceFile.read(ROOT, path).text)
        if re.sub(r"_(total|info|bucket|sum|count)$", "", name) not in names
    }
    others = {
        "slotwire_serve",
        "slotwire_relay",
        "slotwire_agents",
        "slotwire_mcp",
        "slotwire_control",
        "slotwire_owner",
        "slotwire_app",
        "slotwire_agent_crm",
        "slotwire_database",
        "slotwire_schemas",
    }
    assert {name for _, name in lost} <= others, lost
