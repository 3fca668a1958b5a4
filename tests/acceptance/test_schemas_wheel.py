"""The second wheel: the contract alone, for consumers. It stands on pydantic only, and beside the first one."""

from __future__ import annotations

import email.parser
import email.policy
import re
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.packaging import Installation, environment
from tools.sources import ROOT, repository_files

EXAMPLE = "schemas/examples/com.calendly.invitee.canceled.v1.json"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An environment that has pydantic and what pydantic needs, and nothing else."""
    return environment(tmp_path, ["pydantic"])


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
    installation.install(str(schemas_wheel))
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
    installation.install(str(wheels[stays]))
    alone = installation.files()
    assert alone > bare
    installation.install(str(wheels[leaves]))
    assert installation.files() > alone
    module = {"slotwire": "slotwire.schemas", "slotwire-schemas": "slotwire_schemas"}
    imports = "import slotwire.schemas.events as a, slotwire_schemas.events as b"
    both = f"{imports}; print(list(a.BY_TYPE) == list(b.BY_TYPE))"
    assert installation.run(both) == "True\n"
    installation.uninstall(leaves)
    assert installation.files() == alone
    assert (
        installation.run(f"import {module[stays]}.codec as codec; print(codec.DATASCHEMA)") == "urn:slotwire:schema:\n"
    )
