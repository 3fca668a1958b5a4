"""The alert rules, as Prometheus' own tool reads them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tools.drills import program
from tools.generate.alert_list import ALERTS
from tools.generate.alerts import promtool_tests
from tools.sources import ROOT

RULES = ROOT / "k8s" / "monitoring" / "slotwire.rules.yaml"

pytestmark = pytest.mark.drills


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool, and return what it said."""
    return subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)


def test_prometheus_accepts_the_rules() -> None:
    """Every expression and template of the rule file parses, and no rule is there twice."""
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


@pytest.mark.parametrize("name", [alert.name for alert in ALERTS])
def test_an_alert_fires_on_its_fault_and_on_nothing_else(name: str, tmp_path: Path) -> None:
    """Within 85 minutes the alert fires on the series of its fault, and on those of a healthy service it does not."""
    tests = tmp_path / "tests.yaml"
    tests.write_text(promtool_tests([alert for alert in ALERTS if alert.name == name], str(RULES)), encoding="utf-8")
    tested = promtool("test", "rules", tests)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_rule_that_does_not_fire_is_noticed(tmp_path: Path) -> None:
    """The tests above bite: with the healthy series in the place of the faulty ones promtool fails each alert."""
    wrong = [replace(alert, faulty=alert.healthy) for alert in ALERTS]
    tests = tmp_path / "tests.yaml"
    tests.write_text(promtool_tests(wrong, str(RULES)), encoding="utf-8")
    tested = promtool("test", "rules", tests)
    assert tested.returncode == 1
    assert set(re.findall(r'alertname=\\?"(\w+)', tested.stdout + tested.stderr)) == {alert.name for alert in ALERTS}
