"""Alerts: each has its runbook, is reached from the list of signs, and both rule files hold the same rules."""

from __future__ import annotations

import re

import pytest
import yaml

from tools.generate.alert_list import ALERTS
from tools.generate.alerts import Alert
from tools.sources import ROOT

RUNBOOKS = ROOT / "docs" / "runbooks"
DECIDED = {"migration-stuck.md", "restore-postgres.md"}
"""Pages that lead through what a person has decided to do."""
MONITORING = ROOT / "k8s" / "monitoring"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_has_its_runbook(alert: Alert) -> None:
    """Its page exists, with the section that it names, and says which metric to look at."""
    page, _, section = alert.runbook.partition("#")
    text = (RUNBOOKS / page).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert not section or section in headings
    named = set(re.findall(r"\b(?:slotwire|process)_[a-z_]+?(?=_bucket|\b)", alert.expression))
    assert any(re.search(rf"\b{name}", text) for name in named), f"{page} names none of {sorted(named)}"


def test_every_runbook_is_reached_by_an_alert() -> None:
    """No failure that a metric shows goes unnoticed: each page is some alert's, and the list of signs has them all.

    That a secret leaked no metric can show, and to restore is a person's decision.
    """
    pages = {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}
    shown = {page for page in pages - DECIDED if not page.endswith("-leaked.md")}
    assert shown == {alert.runbook.partition("#")[0] for alert in ALERTS}
    assert pages <= set(re.findall(r"\]\(([a-z-]+\.md)", (RUNBOOKS / "README.md").read_text(encoding="utf-8")))


def test_both_rule_files_hold_the_same_rules() -> None:
    """What the operator of Prometheus gets is what promtool has tested."""
    plain = yaml.safe_load((MONITORING / "slotwire.rules.yaml").read_text(encoding="utf-8"))
    resource = yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text(encoding="utf-8"))
    assert (resource["kind"], resource["apiVersion"]) == ("PrometheusRule", "monitoring.coreos.com/v1")
    assert plain["groups"] == resource["spec"]["groups"]
    rules = plain["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == [alert.name for alert in ALERTS]
    assert len({rule["alert"] for rule in rules}) == len(rules)
