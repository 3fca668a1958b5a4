"""The unit for systemd that the manual shows: settings that exist, commands that exist, and time to stop."""

from __future__ import annotations

import configparser
import re

from typer.testing import CliRunner

from slotwire.ingest.cli import app
from tools.sources import ROOT

MANUAL = ROOT / "docs" / "howto" / "run-in-production.md"
CONTROL_SECONDS = 60
"""How long a running request of the management API may take to finish; no other process needs longer."""


def unit() -> configparser.ConfigParser:
    """Read the manual's unit."""
    (text,) = re.findall(r"```ini\n(\[Unit\].*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]  # because names of systemd have capitals
    read.read_string(text)
    return read


def test_it_gives_a_process_time_to_stop() -> None:
    """It is started again after a crash, and not killed while it drains; it may do no more than it must."""
    service = unit()["Service"]
    assert int(service["TimeoutStopSec"]) > CONTROL_SECONDS
    assert (service["Restart"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("always", "yes", "strict")
    assert service["User"] != "root"


def test_its_arguments_are_commands() -> None:
    """Every process that its comment names is one that `slotwire` has."""
    (comment,) = re.findall(r"# ARGUMENTS is set in the second file: (.*)", MANUAL.read_text(encoding="utf-8"))
    named = [words.split() for words in re.split(r", (?:or )?", comment)]
    assert {words[0] for words in named} == {"serve", "relay", "control", "mcp", "agents"}
    for words in named:
        shown = CliRunner().invoke(app, [*words, "--help"])
        assert shown.exit_code == 0, shown.output
    assert unit()["Service"]["ExecStart"].endswith("/bin/slotwire $ARGUMENTS")
