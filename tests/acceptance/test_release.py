"""What `make release` builds: the same bytes wherever it is built, a bill of every package, and wheels that work."""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from time import gmtime
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion

from tests.support.packaging import environment, run
from tools.release.__main__ import SUMS, write_release
from tools.release.bill import MARKER, SCHEMA, requirement_name
from tools.release.lock import read_lock
from tools.sources import PACKAGES, ROOT, repository_files

EPOCH = 1_790_000_000
LOCK = ROOT / "requirements" / "runtime.lock"
PERSON = {f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def copy_repository(target: Path, *, modified: int, mode: int) -> Path:
    """Copy the repository's files as a checkout would hold them, with these times and permissions."""
    for path in repository_files():
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, copy)
        copy.chmod(mode)
        os.utime(copy, (modified, modified))
    for package in PACKAGES:
        (target / "src" / "slotwire" / package).symlink_to(f"../../{package}")
    return target


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases of the same files, from checkouts in different folders, of different times and permissions."""
    made = []
    for name, modified, mode in (("first", 1_600_000_000, 0o644), ("a-second/deeper", 1_700_000_001, 0o660)):
        source = copy_repository(tmp_path_factory.mktemp("checkout") / name, modified=modified, mode=mode)
        target = tmp_path_factory.mktemp("dist")
        write_release(source, target, epoch=EPOCH)
        made.append(target)
    return made[0], made[1]


@pytest.fixture
def bill(releases: tuple[Path, Path]) -> dict[str, Any]:
    """The bill of materials of the application's wheel."""
    (path,) = releases[0].glob("slotwire-*.cdx.json")
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def test_two_builds_are_equal(releases: tuple[Path, Path]) -> None:
    """Both wheels, both bills and the checksums are the same bytes, whatever folder, time and mode they come from."""
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in releases)
    assert first == second
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    assert set(first) == {
        f"slotwire-{version[1]}-py3-none-any.whl",
        f"slotwire-{version[1]}.cdx.json",
        f"slotwire_schemas-{version[1]}-py3-none-any.whl",
        f"slotwire_schemas-{version[1]}.cdx.json",
        SUMS,
    }


def test_the_time_is_the_commits(releases: tuple[Path, Path], tmp_path: Path) -> None:
    """Every entry of a wheel has the time that was asked for; another time makes other bytes."""
    for wheel in releases[0].glob("*.whl"):
        times = {entry.date_time for entry in zipfile.ZipFile(wheel).infolist()}
        assert times == {(2026, 9, 21, 14, 13, 20)}
    source = copy_repository(tmp_path / "source", modified=1_600_000_000, mode=0o644)
    (tmp_path / "dist").mkdir()
    write_release(source, tmp_path / "dist", epoch=EPOCH + 60)
    for wheel in releases[0].glob("*.whl"):
        assert (tmp_path / "dist" / wheel.name).read_bytes() != wheel.read_bytes()


def test_the_checksums_are_right(releases: tuple[Path, Path]) -> None:
    """SHA256SUMS names every other file with its hash, in the form that `sha256sum --check` reads."""
    lines = (releases[0] / SUMS).read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in releases[0].iterdir() if path.name != SUMS
    }
    assert len(lines) == len(sums) == 4


def test_the_bills_are_valid(releases: tuple[Path, Path]) -> None:
    """CycloneDX's own schema, in its strict form, accepts both bills, and refuses one that is broken."""
    from cyclonedx.validation.json import JsonStrictValidator  # here, because it compiles grammars for seconds

    validator = JsonStrictValidator(SCHEMA)
    assert SCHEMA is SchemaVersion.V1_6
    for path in releases[0].glob("*.cdx.json"):
        text = path.read_text(encoding="utf-8")
        assert validator.validate_str(text) is None
        assert validator.validate_str(text.replace('"purl"', '"purls"', 1)) is not None


def test_the_bill_is_the_lock_file(bill: dict[str, Any]) -> None:
    """The bill lists exactly the packages of the lock file, each with its version, its place and all its hashes."""
    listed = {
        (
            component["name"],
            component["version"],
            next((entry["value"] for entry in component.get("properties", ()) if entry["name"] == MARKER), ""),
            frozenset(found["content"] for found in component["externalReferences"][0]["hashes"]),
        )
        for component in bill["components"]
    }
    locked = read_lock(LOCK)
    assert listed == {(package.name, package.version, package.marker, frozenset(package.hashes)) for package in locked}
    assert len(bill["components"]) == len(locked)
    assert all(
        component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}" for component in bill["components"]
    )
    # Against the text itself, so that nothing that the reader overlooks is missing from both.
    text = LOCK.read_text(encoding="utf-8")
    assert {(name, version) for name, version, *_ in listed} == set(
        re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    )
    assert sum(len(hashes) for *_, hashes in listed) == text.count("--hash=sha256:")


def test_the_bill_knows_who_needs_what(bill: dict[str, Any], releases: tuple[Path, Path]) -> None:
    """It is about the wheel beside it, and gives what the wheel asks for and what each package needs in turn."""
    subject = bill["metadata"]["component"]
    (wheel,) = releases[0].glob("slotwire-*.whl")
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    assert bill["metadata"]["timestamp"] == "2026-09-21T14:13:20+00:00"
    graph = {entry["ref"]: set(entry.get("dependsOn", ())) for entry in bill["dependencies"]}
    assert {ref.split("/")[1].split("@")[0] for ref in graph[subject["bom-ref"]]} == wanted_by(wheel, "traces")
    reached, waiting = set(), [subject["bom-ref"]]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting.extend(graph[ref])
    assert reached == {subject["bom-ref"], *(component["bom-ref"] for component in bill["components"])}


def test_the_contracts_bill_is_what_pydantic_needs(releases: tuple[Path, Path]) -> None:
    """The bill of slotwire-schemas lists pydantic, what pydantic needs, and nothing of the application's."""
    (path,), (wheel,) = releases[0].glob("slotwire_schemas-*.json"), releases[0].glob("slotwire_schemas-*.whl")
    read = json.loads(path.read_text(encoding="utf-8"))
    names = {component["name"] for component in read["components"]}
    assert wanted_by(wheel) == {"pydantic"}
    assert {"pydantic", "pydantic-core", "typing-extensions"} <= names
    assert not names & {"aiohttp", "aiokafka", "pydantic-settings"}


def wanted_by(wheel: Path, *extras: str) -> set[str]:
    """Return the names of the packages that a wheel's own metadata asks for, alone or with some extras."""
    [name] = [entry for entry in zipfile.ZipFile(wheel).namelist() if entry.endswith("/METADATA")]
    text = zipfile.ZipFile(wheel).read(name).decode()
    metadata = email.parser.Parser(policy=email.policy.default).parsestr(text)
    asked = (line.partition("extra ==") for line in metadata.get_all("Requires-Dist", []))
    return {requirement_name(line) for line, _, extra in asked if not extra or extra.strip(" '\"") in extras}


def test_the_wheel_runs_where_nothing_else_is(releases: tuple[Path, Path], tmp_path: Path) -> None:
    """In an environment with the locked packages only, the command gives its help, and each process imports."""
    (wheel,) = releases[0].glob("slotwire-*.whl")
    installation = environment(tmp_path, sorted(wanted_by(wheel)))
    installation.install(str(wheel))
    command = installation.folder / "bin" / "slotwire"
    told = run([str(command), "--help"], cwd=tmp_path)
    assert "Usage: slotwire" in told
    assert {"serve", "relay", "control", "agents", "migrate", "doctor"} <= set(re.findall(r"[a-z]+", told))
    roots = ("slotwire.ingest.receive", "slotwire.ingest.relay", "slotwire.ingest.operate", "slotwire.handlers")
    imports = "\n".join(f"import {root}.process" for root in roots)
    where = installation.run(f"{imports}\nimport slotwire.schemas.events as events\nprint(events.__file__)")
    assert Path(where.strip()).is_relative_to(installation.packages)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own that holds our files in one commit."""
    folder = copy_repository(tmp_path / "checkout", modified=1_600_000_000, mode=0o644)
    (folder / "dist").mkdir()
    (folder / "dist" / "slotwire-0.0.9-py3-none-any.whl").write_bytes(b"of a release before")
    commit = ["git", "-c", "commit.gpgsign=false", "commit", "--quiet", "--message", "files"]
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"], commit):
        subprocess.run(command, cwd=folder, env=os.environ | PERSON, check=True, timeout=300)
    return folder


def test_the_command_releases_a_commit(checkout: Path) -> None:
    """Run without a network it says which images are not pinned, and builds the commit, not what changed since."""
    (checkout / "ingest" / "not_committed.py").write_text("", encoding="utf-8")
    nowhere = ["--registry=default=http://127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-m", "tools.release", *nowhere],
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert "1 uncommitted changes are not in this release." in said
    if "@sha256:" not in (ROOT / "compose.yaml").read_text(encoding="utf-8"):
        assert "not pinned  postgres:18: default cannot be reached" in said
    dist = checkout / "dist"
    assert [line for line in said if line.startswith("wrote ")] == [f"wrote dist/{name}" for name in in_order(dist)]
    assert not (dist / "slotwire-0.0.9-py3-none-any.whl").exists()
    (wheel,) = dist.glob("slotwire-*.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "not_committed" in name]
    committed = int(run(["git", "log", "-1", "--format=%ct"], cwd=checkout))
    assert zipfile.ZipFile(wheel).infolist()[0].date_time == gmtime(committed - committed % 2)[:6]


def in_order(dist: Path) -> list[str]:
    """List the files of a release as the command names them: the checksums last."""
    return sorted((path.name for path in dist.iterdir()), key=lambda name: (name == SUMS, name))
