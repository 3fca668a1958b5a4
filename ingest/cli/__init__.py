"""The command `slotwire`: a table of commands. Each is a module of its own, which is imported when the command runs.

local serve relay control     run processes, as `mcp serve` does
migrate doctor                prepare an installation, and check it
organizations connections subscriptions events bookings availability quarantine dead_letters reconcile erase calendly
mcp keys audit                what operators do, one file per resource of `ingest/operate/actions/`
agent_runs agent_approvals agent_settings agent_schedules
                              under `slotwire agents`, whose other commands are of another package
connect_links                 under `slotwire connections`
mcp_subscriptions             under `slotwire mcp`
simulate                      the small Calendly; simulate_access, simulate_faults and simulator_calls belong to it
acting                        how commands act: options checked like a request, then one operation
options listing token_file    what commands share: options, how they print, how they read a token

Other packages add commands through the entry point group `slotwire.commands`. `--help` imports no command: the help
line is the first line of the module's docstring, read without running it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from errno import EDQUOT, ENOSPC
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from slotwire.ingest.foundation.errors import SlotwireError

_COMMANDS = (
    "local",
    "serve",
    "relay",
    "control",
    "migrate",
    "simulate",
    "connections",
    "organizations",
    "subscriptions",
    "events",
    "bookings",
    "availability",
    "quarantine",
    "dead-letters",
    "reconcile",
    "erase",
    "actions",
    "calendly",
    "mcp",
    "keys",
    "audit",
    "doctor",
)
_BESIDE = {
    "agents": {
        "runs": "slotwire.ingest.cli.agent_runs",
        "approvals": "slotwire.ingest.cli.agent_approvals",
        "settings": "slotwire.ingest.cli.agent_settings",
        "schedule": "slotwire.ingest.cli.agent_schedules",
    },
}
"""Commands of ours that belong under one of another package."""
_FULL = frozenset({EDQUOT, ENOSPC})
_MAKE_ROOM = "Make room on the disk that the output goes to, and run it again: it may be incomplete."
_MODULES = {name: f"slotwire.ingest.cli.{name.replace('-', '_')}" for name in _COMMANDS}


def _modules() -> dict[str, str]:
    """Map each command to the module that holds its `app`."""
    contributed = importlib.metadata.entry_points(group="slotwire.commands")
    return {**_MODULES, **{entry.name: entry.value.partition(":")[0] for entry in contributed}}


def _first_line(module: str) -> str:
    """Read a module's help line without importing it."""
    parent, _, name = module.rpartition(".")
    package = importlib.util.find_spec(parent)
    if package is None or not package.submodule_search_locations:
        return ""
    source = Path(package.submodule_search_locations[0], f"{name}.py")
    if not source.exists():
        return ""
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


class _LazyGroup(TyperGroup):
    """Lists all commands, and imports only the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature is the library's
        return list(_modules())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        module = _modules().get(cmd_name)
        if module is None:
            return None
        if ctx.invoked_subcommand is None and not ctx.meta.get("slotwire.called"):
            return _described(cmd_name, _first_line(module))
        loaded: Any = typer.main.get_command(importlib.import_module(module).app)
        loaded.name = cmd_name
        for name, beside in _BESIDE.get(cmd_name, {}).items():
            added: Any = typer.main.get_command(importlib.import_module(beside).app)
            added.name = name  # help shows a command's own name, whatever it is added under
            loaded.add_command(added)
        return loaded

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        ctx.meta["slotwire.called"] = True
        return super().resolve_command(ctx, args)


def _described(name: str, line: str) -> Any:
    """Make a placeholder of a command for the list of `--help`."""
    from typer.core import TyperCommand

    return TyperCommand(name, help=line, short_help=line)


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Calendly webhooks as a durable, ordered, typed event stream on Kafka.",
)


@app.callback()
def _root() -> None:
    """Calendly webhooks as a durable, ordered, typed event stream on Kafka."""


def main() -> None:
    """Run the command line. An error that a person can act on prints two lines, not a stack trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # of a terminal whose encoding lacks a character
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except SlotwireError as error:
        raise SystemExit(_tell(error)) from None
    except BaseExceptionGroup as group:
        known = group.subgroup(SlotwireError)
        if known is None:
            raise
        raise SystemExit(_tell(_first(known))) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end would try once more, and complain
        raise SystemExit(_tell(SlotwireError("there is no room to write", remedy=_MAKE_ROOM))) from None


def _first(group: BaseExceptionGroup[SlotwireError]) -> SlotwireError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, SlotwireError) else SlotwireError(str(found))


def _tell(error: SlotwireError) -> int:
    sys.stderr.write(f"slotwire: {error.message}\n")
    if error.remedy:
        sys.stderr.write("".join(f"  {line}\n" for line in error.remedy.splitlines()))
    return 1
