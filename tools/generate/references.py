"""Every page that is made from the code: settings, metrics and commands here, the others in files of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from slotwire.ingest import cli
from slotwire.ingest.foundation.exposition import shown_by
from slotwire.ingest.foundation.settings import Settings
from slotwire.ingest.foundation.settings_base import PREFIX, SettingsGroup
from slotwire.ingest.foundation.telemetry import REGISTRY
from tools.generate import alerts, asyncapi, calendly_calls, dashboard, json_schemas, management_api
from tools.generate.alert_list import ALERTS

MADE = "<!-- Made from the code by `make generate`: change the code, not this page. -->"
SETTINGS = """# Settings

{made}

Environment variables, read once at start. A variable with the prefix `SLOTWIRE_` that is not in this list is an error
that names the nearest known one; so is a value that does not fit. Lists are separated by commas.
"""
METRICS = """# Metrics

{made}

Every process answers `/metrics` on its health port, in Prometheus' text format: with the metrics that it shows below,
and with `process_*` (CPU seconds, memory, open files, start time). No label ever holds a secret, an address of a hook
or personal data.

A gauge that is read somewhere (backlog, lag, whatever `control` reads) vanishes when it was not read again in time, so
that it does not freeze while a call hangs; [an alert](alerts.md) fires when it is missing. Of several `relay`, a
shard's leader shows what waits; of several `control`, one shows what was read for all. So a sum counts nothing twice.
"""
COMMANDS = """# Commands

{made}

`slotwire COMMAND --help` says the same. A command that fails says on standard error why and what to do, and exits with
1; with 2 when it was called wrongly. Settings come from the environment: see [settings](settings.md).
"""
METRIC_ENDINGS = {"counter": "_total", "info": "_info"}
BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


def pages() -> dict[str, str]:
    """Return every generated page by its path from the root."""
    return {
        "docs/reference/settings.md": settings_page(),
        "docs/reference/metrics.md": metrics_page(),
        "docs/reference/commands.md": commands_page(),
        **management_api.pages(MADE),
        **json_schemas.pages(MADE),
        **asyncapi.pages(),
        **alerts.rule_files(ALERTS, MADE),
        **dashboard.dashboard_file(),
        "docs/reference/alerts.md": alerts.alerts_page(ALERTS, MADE),
        calendly_calls.PAGE: calendly_calls.page(),
        **calendly_calls.code(),
    }


def settings_page() -> str:
    """Describe every environment variable: its default, what it accepts, what it means."""
    parts = [
        SETTINGS.format(made=MADE),
        "## The process\n",
        _table(("variable", "default", "accepts", "meaning"), _settings_rows("", Settings.model_fields)),
    ]
    for name, field in Settings.model_fields.items():
        if (group := _group(field)) is not None:
            title = (group.__doc__ or "").strip().rstrip(".")
            parts.append(f"## {title[0].upper()}{title[1:]}\n")
            parts.append(
                _table(("variable", "default", "accepts", "meaning"), _settings_rows(f"{name}__", group.model_fields))
            )
    return "\n".join(parts)


def _settings_rows(prefix: str, fields: dict[str, FieldInfo]) -> Iterator[tuple[str, ...]]:
    for name, field in fields.items():
        if _group(field) is None:
            variable = f"`{PREFIX}{prefix}{name}`".upper()
            yield variable, _default(field.default), _accepted(field), " ".join((field.description or "").split())


def _group(field: FieldInfo) -> type[SettingsGroup] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, SettingsGroup) else None


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value) if isinstance(value, bool) else value}`"


def _accepted(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    kinds = {int: "whole number", float: "number", bool: "`true`, `false`"}
    # Of `int | None` the number counts.
    annotation = next((each for each in get_args(field.annotation) if each in kinds), field.annotation)
    kind = kinds.get(annotation, "text") if isinstance(annotation, type) else "text"
    if "SecretStr" in str(field.annotation):
        kind = "secret"
    if "tuple" in str(field.annotation):
        kind = f"list of {kind}s" if kind == "secret" else "list"
    bounds = [
        f"{sign} {getattr(limit, name):.15g}"
        for limit in field.metadata
        for shape, (sign, name) in BOUNDS.items()
        if isinstance(limit, shape)
    ]
    return " ".join([kind, ", ".join(bounds)]).strip()


def metrics_page() -> str:
    """Describe every metric: its name as Prometheus reads it, its labels, which processes show it, its meaning."""
    labels = {
        metric.name: getattr(collector, "_labelnames", ())
        for collector in REGISTRY._collector_to_names
        for metric in collector.collect()
    }
    rows = [
        (
            f"`{metric.name}{METRIC_ENDINGS.get(metric.type, '')}`",
            metric.type,
            ", ".join(f"`{label}`" for label in labels[metric.name]),
            ", ".join(shown_by(metric.name)),
            metric.documentation,
        )
        for metric in REGISTRY.collect()
    ]
    return "\n".join([METRICS.format(made=MADE), _table(("metric", "type", "labels", "shown by", "meaning"), rows)])


def commands_page() -> str:
    """Describe every command: how it is called, what it does, its options."""
    parts = [COMMANDS.format(made=MADE)]
    for name, command in commands().items():
        parts.extend(_described(f"slotwire {name}", command, depth=2))
    return "\n".join(parts)


def commands() -> dict[str, Any]:
    """Return the commands of `slotwire` by name, whichever packages they and what is below them come from."""
    program: Any = typer.main.get_command(cli.app)
    context = program.make_context("slotwire", [], resilient_parsing=True)
    context.meta["slotwire.called"] = True
    return {name: program.get_command(context, name) for name in program.list_commands(context)}


def _described(path: str, command: Any, *, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} `{path}`\n"
    if command.help:
        yield _paragraphs(command.help)
    subcommands = getattr(command, "commands", {})
    for name, sub in subcommands.items():
        yield from _described(f"{path} {name}", sub, depth=depth + 1)
    if subcommands:
        return
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join(
        [path, *(["[OPTIONS]"] if len(arguments) < len(command.params) else []), *map(_placeholder, arguments)]
    )
    yield f"```text\n{usage}\n```\n"
    rows = [_parameter_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        yield _table(("option or argument", "default", "meaning"), rows)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n")) + "\n"


def _placeholder(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return str(name) if argument.required or name.startswith("[") else f"[{name}]"


def _parameter_row(parameter: Any) -> tuple[str, ...]:
    if parameter.param_type_name == "argument":
        return f"`{_placeholder(parameter)}`", "", parameter.help or ""
    value = "" if parameter.is_flag else f" {parameter.metavar or _kind(parameter.type_descriptor.annotation)}"
    names = ", ".join(f"`{option}{value}`" for option in (*parameter.opts, *parameter.secondary_opts))
    shown = parameter.show_default if isinstance(parameter.show_default, str) else ""
    if not shown and parameter.show_default is not False and not parameter.is_flag and not callable(parameter.default):
        shown = _default(parameter.default)
    return names, "required" if parameter.required else shown, parameter.help or ""


def _kind(annotation: Any) -> str:
    """Name what an option takes, as its help does: a word in capitals, or the choices."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(choice.value) for choice in annotation)
    inner = next((kind for kind in get_args(annotation) if kind is not type(None)), annotation)
    return {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(inner, "TEXT")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, tuple("---" for _ in head), *cells]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)
