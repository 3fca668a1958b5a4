"""Makes the project of a new agent: a package with a handler and a migration of its own tables, and a test."""

from __future__ import annotations

import importlib.util
import keyword
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from slotwire.handlers.registry import NAME
from slotwire.ingest.foundation.errors import ConfigurationError

MAX_NAME = 40
"""Characters: the name is part of the names of a schema and a role."""
_TEMPLATE = "project_template"
_ENDING = ".template"


def make_project(name: str, parent: Path) -> tuple[Path, ...]:
    """Write the files of a project into a new folder of the agent's name.

    Args:
        name: the agent's; its package has underscores in place of dashes.
        parent: where the folder is made.

    Returns:
        The files, as paths below `parent`.

    Raises:
        ConfigurationError: no package or agent can have this name, or the folder is there.
    """
    package = name.replace("-", "_")
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"{name!r} cannot be the name of an agent with tables of its own",
            remedy=f"Use up to {MAX_NAME} lower-case letters, digits and dashes, a letter first.",
        )
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or _is_installed(package):
        raise ConfigurationError(
            f"Python has another module {package}", remedy="Choose a name that no module in this environment has."
        )
    folder = parent / name
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already", remedy="Choose another name, or remove it.")
    made: list[Path] = []
    for parts, source in _walk(files("slotwire.handlers").joinpath(_TEMPLATE), ()):
        path = folder.joinpath(*(part.replace("PACKAGE", package) for part in parts))
        path.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8").replace("{{name}}", name).replace("{{package}}", package)
        path.write_text(text, encoding="utf-8")
        made.append(path.relative_to(parent))
    return tuple(sorted(made))


def _walk(folder: Traversable, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _walk(item, (*above, item.name))
        elif item.name.endswith(_ENDING):
            yield (*above, item.name.removesuffix(_ENDING)), item


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
