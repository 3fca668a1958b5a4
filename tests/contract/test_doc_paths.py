"""Documents name files where they are, and packages by the names under which they are imported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.documents import CODE_FOLDERS, ROOT, documents, name_of

_FOLDERS = "|".join((*CODE_FOLDERS, "tools", "docs"))
_PATH = re.compile(rf"`((?:{_FOLDERS})/[\w./-]*)`")
_OLD_NAME = re.compile(
    r"(?:\bfrom|\bimport|python3? -m) +(?:ingest|handlers|schemas)\b"
    r"|(?<![\w./-])(?:ingest|handlers|schemas)\.[a-z_]+[.:\w]"
)
_MODULE = re.compile(r"`(\w+\.py)`")
_MODULES = {path.name for folder in (*CODE_FOLDERS, "tools", "tests") for path in (ROOT / folder).rglob("*.py")}
_CONFIGURATION = ("compose.yaml", "Dockerfile", ".env.example", "Makefile")


def _described() -> list[Path]:
    """Return the files that tell people or machines which package to run: documents, manifests, configuration."""
    manifests = [path for path in (ROOT / "k8s").rglob("*") if path.suffix in {".yaml", ".yml", ".env"}]
    return sorted({*documents(), *manifests, *(ROOT / name for name in _CONFIGURATION)})


def missing_paths(text: str) -> list[str]:
    """Return the paths that a text names as code and that are not in the repository."""
    return [path for path in _PATH.findall(text) if not (ROOT / path).exists()]


def missing_modules(text: str) -> set[str]:
    """Return the modules that a text names without their folder and that no folder of the code has."""
    return {name for name in _MODULE.findall(text) if name not in _MODULES and not name.startswith("X")}


def old_names(text: str) -> list[str]:
    """Return the places where a text names a package without `slotwire.` in front."""
    return _OLD_NAME.findall(text)


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_named_files_exist(document: Path) -> None:
    """Each path of the repository that a document names as code leads to a file or folder."""
    text = document.read_text(encoding="utf-8")
    assert not [*missing_paths(text), *missing_modules(text)], f"{name_of(document)}: correct the path"


@pytest.mark.parametrize("path", _described(), ids=name_of)
def test_packages_have_their_full_name(path: Path) -> None:
    """No document, manifest or configuration names a package as it was before the namespace."""
    assert not old_names(path.read_text(encoding="utf-8")), f"{name_of(path)}: write slotwire.ingest, slotwire.handlers"


def test_wrong_names_are_noticed() -> None:
    """The checks themselves find a file that is not there and each form of an old name, and nothing else."""
    assert missing_modules("`writer.py`, `consume.py`, `X_models.py`") == {"consume.py"}
    assert missing_paths("see `ingest/store.py` and `ingest/log/writer.py`, `tests/`") == ["ingest/store.py"]
    old = ("from handlers import Agent", "import schemas", "python -m ingest.cli", "run handlers.agents.demo:agent")
    assert all(old_names(line) for line in old)
    new = (
        "from slotwire.handlers import Agent",
        "python -m slotwire.ingest.cli",
        "slotwire.handlers.agents.demo:agent",
    )
    assert not any(
        old_names(line) for line in (*new, "from slotwire_schemas.codec import decode", "handlers.", "ingest/")
    )
