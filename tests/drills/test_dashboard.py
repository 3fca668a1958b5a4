"""The dashboard's expressions, as Prometheus' own tool reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tools.drills import program
from tools.generate.dashboard import PANELS

EXPRESSIONS = [expression for panel in PANELS for expression in panel.lines.values()]

pytestmark = pytest.mark.drills


def checked(folder: Path, expressions: list[str]) -> subprocess.CompletedProcess[str]:
    """Let promtool parse expressions, as the rules of a file; Grafana's interval is set as it would be."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(expressions)
    ]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    return subprocess.run([program("promtool"), "check", "rules", path], capture_output=True, text=True, check=False)


def test_prometheus_reads_every_expression(tmp_path: Path) -> None:
    """Each line of each panel is PromQL; one that is not would be noticed."""
    told = checked(tmp_path, EXPRESSIONS)
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"{len(EXPRESSIONS)} rules found" in told.stdout
    assert checked(tmp_path, [f"{EXPRESSIONS[0]})"]).returncode == 1
