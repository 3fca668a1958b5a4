"""The second wheel: the contract alone, for consumers. It stands on pydantic only, and beside the first one."""

from __future__ import annotations

import email.parser
import email.policy
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.sources import ROOT, repository_files

EXAMPLE = "schemas/examples/com.calendly.invitee.canceled.v1.json"


@dataclass(frozen=True)
class Installation:
    """An environment of its own: pydantic, and what a test installs.

    Attributes:
        packages: where pip puts packages.
    """

    python: Path
    packages: Path

    def pip(self, *arguments: str) -> None:
        """Run pip on the environment, without an index."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check", "--quiet"]
        run([*command, *arguments])

    def run(self, code: str) -> str:
        """Run a program in the environment, warnings being errors, and return what it wrote."""
        return run([str(self.python), "-I", "-W", "error", "-c", code])

    def files(self) -> set[str]:
        """List what is installed, what Python compiled left out."""
        found = (path for path in self.packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(self.packages).as_posix() for path in found}


def run(command: list[str], cwd: Path = ROOT) -> str:
    """Run a command that must succeed, and return what it wrote."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, target: Path) -> Path:
    """Build the wheel of a project folder, without network and without an environment of its own."""
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)], cwd=folder)
    [path] = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def schemas_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The consumers' wheel."""
    return build(ROOT / "schemas", tmp_path_factory.mktemp("schemas-wheel"))


@pytest.fixture(scope="module")
def slotwire_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application's wheel."""
    return build(ROOT, tmp_path_factory.mktemp("slotwire-wheel"))


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An environment that has pydantic and what pydantic needs, by a path to copies of ours, and nothing else."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    packages = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    needed = tmp_path / "needed"
    needed.mkdir()
    for name in requirements("pydantic"):
        distribution = importlib.metadata.distribution(name)
        for entry in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            (needed / entry).symlink_to(str(distribution.locate_file(entry)))
    (packages / "needed.pth").write_text(f"{needed}\n", encoding="utf-8")
    return Installation(python, packages)


def requirements(name: str) -> set[str]:
    """Return a distribution and all it needs here, extras left out."""
    found = {name}
    for line in importlib.metadata.requires(name) or ():
        if "extra ==" not in line:
            found |= requirements(re.split(r"[^\w.-]", line)[0])
    return found


def test_it_holds_the_contract_and_nothing_else(schemas_wheel: Path) -> None:
    """Modules, schemas, examples, the AsyncAPI document, the mark of types and the licence; no frozen release."""
    ours = [path.relative_to("schemas") for path in repository_files() if path.parts[0] == "schemas"]
    left_out = {"pyproject.toml", "README.md"}
    wanted = {
        f"slotwire_schemas/{path.as_posix()}"
        for path in ours
        if path.name not in left_out and "released" not in path.parts
    }
    packed = {name for name in zipfile.ZipFile(schemas_wheel).namelist() if ".dist-info/" not in name}
    assert packed == wanted | {"slotwire_schemas/LICENSE"}
    assert {"slotwire_schemas/codec.py", "slotwire_schemas/py.typed", "slotwire_schemas/asyncapi.json"} <= packed


def test_it_needs_pydantic_only(schemas_wheel: Path) -> None:
    """Its one requirement is pydantic, in the range of the application's; version and licence are the same too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [name] = [entry for entry in zipfile.ZipFile(schemas_wheel).namelist() if entry.endswith("/METADATA")]
    text = zipfile.ZipFile(schemas_wheel).read(name).decode()
    metadata = email.parser.Parser(policy=email.policy.default).parsestr(text)
    assert (metadata["Name"], metadata["Version"]) == ("slotwire-schemas", project["project"]["version"])
    assert metadata["License-Expression"] == project["project"]["license"]
    assert metadata["Requires-Python"] == project["project"]["requires-python"]
    [needed] = metadata.get_all("Requires-Dist", [])
    [ours] = [entry for entry in project["project"]["dependencies"] if re.match(r"pydantic\b(?!-)", entry)]
    assert set(re.split("(?=[<>])|,", needed)) == set(re.split("(?=[<>])|,", ours))
    own = tomllib.loads((ROOT / "schemas/pyproject.toml").read_text(encoding="utf-8"))
    assert own["build-system"] == project["build-system"]


def test_it_works_with_pydantic_alone(schemas_wheel: Path, installation: Installation) -> None:
    """Every module imports in an environment without anything else, and what the README shows reads a record."""
    installation.pip("install", "--no-deps", "--no-index", "--no-compile", str(schemas_wheel))
    modules = [path.stem for path in (ROOT / "schemas").glob("*.py") if path.stem != "__init__"]
    assert "codec" in modules
    imports = "\n".join(f"import slotwire_schemas.{name}" for name in modules)
    others = "import importlib.util\nprint(*map(importlib.util.find_spec, ['schemas', 'slotwire', 'orjson', 'httpx']))"
    assert installation.run(f"{imports}\n{others}") == "None None None None\n"
    readme = (ROOT / "schemas/README.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    record = f"""
import json, pathlib, types
example = json.loads(pathlib.Path({str(ROOT / EXAMPLE)!r}).read_text())
record = types.SimpleNamespace(
    headers=lambda: [(name, value.encode()) for name, value in example["headers"].items()],
    value=lambda: json.dumps(example["value"]).encode(),
)
"""
    written = installation.run(record + shown.replace("rescheduled=False", "rescheduled=True"))
    assert re.fullmatch(r"[0-9a-f-]{36} [0-9a-f-]{36} https://api\.calendly\.com/scheduled_events/\S+\n", written)


@pytest.mark.parametrize("leaves", ["slotwire", "slotwire-schemas"])
def test_either_goes_without_the_other(
    leaves: str, schemas_wheel: Path, slotwire_wheel: Path, installation: Installation
) -> None:
    """Installed together they share no file, and whichever is uninstalled takes its own and leaves the other whole."""
    bare = installation.files()
    wheels = {"slotwire": slotwire_wheel, "slotwire-schemas": schemas_wheel}
    [stays] = wheels.keys() - {leaves}
    installation.pip("install", "--no-deps", "--no-index", "--no-compile", str(wheels[stays]))
    alone = installation.files()
    assert alone > bare
    installation.pip("install", "--no-deps", "--no-index", "--no-compile", str(wheels[leaves]))
    assert installation.files() > alone
    module = {"slotwire": "slotwire.schemas", "slotwire-schemas": "slotwire_schemas"}
    imports = "import slotwire.schemas.events as a, slotwire_schemas.events as b"
    both = f"{imports}; print(list(a.BY_TYPE) == list(b.BY_TYPE))"
    assert installation.run(both) == "True\n"
    installation.pip("uninstall", "--yes", leaves)
    assert installation.files() == alone
    assert (
        installation.run(f"import {module[stays]}.codec as codec; print(codec.DATASCHEMA)") == "urn:slotwire:schema:\n"
    )
