"""The alert rules: from the list of alerts to a PrometheusRule, to a plain rule file, and to the tests of both.

Each alert of `alert_list.py` brings the series of a fault and of a healthy service; `promtool_tests` makes of them what
`promtool test rules` reads. `make drills` runs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from tools.sources import ROOT

PAGE = """# Alerts

{made}

The rules for Prometheus are in [`k8s/monitoring/`](../../k8s/README.md#alerts). Each alert carries a `summary`, and the
path of its runbook in this repository as `runbook`; put your address before it in your Alertmanager's templates. `page`
wakes somebody, `ticket` waits for the morning. `make drills` proves each: it fires on the series of its fault, and is
quiet on those of a healthy service.

| alert | severity | fires when | runbook |
| --- | --- | --- | --- |
"""
LOOKED_AT = "85m"
"""When the tests look whether an alert has fired; longer than any waits."""
Series = dict[str, str]
"""Values by series, in promtool's notation: one value a minute."""


@dataclass(frozen=True)
class Alert:
    """One alert, with its proof.

    Attributes:
        name: in Prometheus, and the heading of nothing else.
        expression: PromQL that returns a series while something is wrong.
        wait: how long it must hold before the alert fires, in Prometheus' notation.
        severity: `page` wakes somebody, `ticket` waits for the morning.
        summary: what is wrong, for the one who is woken; may use Prometheus' templates.
        runbook: the page, relative to `docs/runbooks/`, that says what to do.
        faulty: series on which it fires within 85 minutes.
        healthy: series on which it stays quiet as long.
    """

    name: str
    expression: str
    wait: str
    severity: Literal["page", "ticket"]
    summary: str
    runbook: str
    faulty: Series
    healthy: Series


def rule_files(alerts: Iterable[Alert], made: str) -> dict[str, str]:
    """Return the two rule files by their paths from the root; both hold the same group."""
    group = {"name": "slotwire", "rules": [_rule(alert) for alert in alerts]}
    prometheus_rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "slotwire", "labels": {"app.kubernetes.io/part-of": "slotwire"}},
        "spec": {"groups": [group]},
    }
    comment = made.replace("<!--", "#").replace(" -->", "").replace("page", "file") + "\n"
    return {
        "k8s/monitoring/slotwire.rules.yaml": comment + _yaml({"groups": [group]}),
        "k8s/monitoring/prometheus-rule.yaml": comment + _yaml(prometheus_rule),
    }


def alerts_page(alerts: Iterable[Alert], made: str) -> str:
    """Describe every alert: when it fires, whether it wakes somebody, and which runbook helps."""
    rows = (
        f"| `{alert.name}` | {alert.severity} | {_when(alert)} | [{_title(alert)}](../runbooks/{alert.runbook}) |\n"
        for alert in alerts
    )
    return PAGE.format(made=made) + "".join(rows)


def promtool_tests(alerts: Iterable[Alert], rule_file: str) -> str:
    """Write promtool's tests: within 85 minutes each alert fires on its fault, and never on the healthy series."""
    tests = [_test(alert, kind) for alert in alerts for kind in ("faulty", "healthy")]
    return _yaml({"rule_files": [rule_file], "evaluation_interval": "1m", "tests": tests})


def _test(alert: Alert, kind: Literal["faulty", "healthy"]) -> dict[str, Any]:
    series = alert.faulty if kind == "faulty" else alert.healthy
    fired = f'count(count_over_time(ALERTS{{alertname="{alert.name}", alertstate="firing"}}[2h]))'
    return {
        "name": f"{alert.name} on {kind} series",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"({fired} > bool 0) or vector(0)",
                "eval_time": LOOKED_AT,
                "exp_samples": [{"labels": "{}", "value": 1 if kind == "faulty" else 0}],
            }
        ],
    }


def _when(alert: Alert) -> str:
    """Write the expression as a cell of a table; a bar in it would end the cell."""
    expression = alert.expression.replace("|", "\\|")
    return f"`{expression}`" + ("" if alert.wait == "0m" else f" for {alert.wait}")


def _title(alert: Alert) -> str:
    """Return the title of the alert's runbook."""
    page = ROOT / "docs" / "runbooks" / alert.runbook.partition("#")[0]
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.wait,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook": f"docs/runbooks/{alert.runbook}"},
    }


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)
    return text
