"""What the wheel owns: one namespace with three packages, and nothing that an author's own packages are called."""

from __future__ import annotations

import configparser
import email.parser
import email.policy
import zipfile
from pathlib import Path

import pytest

from tools.sources import PACKAGES, ROOT, repository_files


@pytest.fixture
def wheel(slotwire_wheel: Path) -> zipfile.Path:
    """The content of the wheel."""
    return zipfile.Path(slotwire_wheel)


def names_in(wheel: zipfile.Path) -> set[str]:
    """List the files of a wheel."""
    return {name for name in wheel.root.namelist() if not name.endswith("/")}


def dist_info(wheel: zipfile.Path, name: str) -> str:
    """Read a file of the wheel's metadata."""
    (folder,) = {entry.partition("/")[0] for entry in names_in(wheel) if ".dist-info/" in entry}
    return (wheel / folder / name).read_text(encoding="utf-8")


def test_the_wheel_holds_our_one_namespace_and_nothing_else(wheel: zipfile.Path) -> None:
    """Every file of ingest, handlers and schemas is in the wheel, SQL and the list of jars too, and no other."""
    ours = {f"slotwire/{path.as_posix()}" for path in repository_files() if path.parts[0] in PACKAGES}
    ours |= {path.relative_to("src").as_posix() for path in repository_files() if path.parts[0] == "src"}
    packed = {name for name in names_in(wheel) if ".dist-info/" not in name}
    assert packed == ours
    assert {
        "slotwire/ingest/local/kafka-jars.txt",
        "slotwire/ingest/sql/log.sql",
        "slotwire/handlers/sql/inbox.sql",
    } <= packed
    assert any(name.startswith("slotwire/ingest/sql/migrations/") and name.endswith(".sql") for name in packed)


def test_every_folder_with_modules_is_a_package() -> None:
    """No folder of ours is a namespace package: another distribution could add files to one."""
    folders = {path.parent for path in repository_files() if path.parts[0] in PACKAGES and path.suffix == ".py"}
    bare = [folder.as_posix() for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()]
    assert not bare, "add an __init__.py with a docstring"


def test_the_wheel_gives_one_command_and_the_agents_to_it(wheel: zipfile.Path) -> None:
    """The command `slotwire` is there, and handlers contributes its own through an entry point."""
    entry_points = configparser.ConfigParser()
    entry_points.read_string(dist_info(wheel, "entry_points.txt"))
    assert dict(entry_points["console_scripts"]) == {"slotwire": "slotwire.ingest.cli:main"}
    assert dict(entry_points["slotwire.commands"])["agents"] == "slotwire.handlers.cli:app"


def test_the_wheel_cannot_be_uploaded(wheel: zipfile.Path) -> None:
    """The classifier that every index refuses is there, with the licence and its text."""
    metadata = email.parser.Parser(policy=email.policy.default).parsestr(dist_info(wheel, "METADATA"))
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert dist_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_licence_is_the_whole_of_apache_2() -> None:
    """The text runs from its title to its last line, and names no person."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for part in (
        "Version 2.0, January 2004",
        "9. Accepting Warranty",
        "END OF TERMS AND CONDITIONS",
        "limitations under",
    ):
        assert part in text
    assert "Copyright 2026 the Slotwire authors" in text
