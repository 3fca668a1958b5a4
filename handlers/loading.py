"""Imports the modules of agents: whatever such a module raises is told with its author's own line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from slotwire.handlers.places import described, own_places
from slotwire.ingest.foundation.errors import ConfigurationError, SlotwireError

MAX_LINES = 6
"""Lines of the author's that an error came through, the innermost first: a recursion comes through hundreds."""


def imported(module_name: str, name: str) -> ModuleType:
    """Import a module, looked up in the working directory first.

    Args:
        module_name: with dots.
        name: of the agent in it.

    Raises:
        ConfigurationError: there is none, or it cannot be imported: with the author's own line.
    """
    if "/" in module_name or module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigurationError(f"{module_name} is a file", remedy=f"Name the module in it: {dotted}:{name}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"{module_name} needs the module {error.name}, which is not installed",
                remedy="Install it into this environment.",
            ) from error
        raise ConfigurationError(
            f"there is no module {module_name}",
            remedy=f"Run the command where it can be imported. It is not in {here} or the installed packages.",
        ) from error
    except SlotwireError as error:
        if (places := own_places(error)) and isinstance(error, ConfigurationError):
            raise ConfigurationError(error.message, remedy=f"{error.remedy}\n{places[0]}") from error
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # `sys.exit`, too
        lines = "\n".join(map(str, own_places(error)[:MAX_LINES]))
        raise ConfigurationError(f"{module_name} cannot be imported: {described(error)}", remedy=lines) from error
