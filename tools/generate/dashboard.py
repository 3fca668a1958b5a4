"""Grafana's dashboard: a panel for each question that an operator asks, in the order of a delivery's way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["short", "s", "bytes", "reqps", "percentunit", "dateTimeFromNow"]
WIDTH, HEIGHT, ACROSS = 8, 7, 3
SCHEMA_VERSION = 39


@dataclass(frozen=True)
class Panel:
    """One question.

    Attributes:
        question: the panel's title.
        unit: Grafana's, of the values.
        lines: expressions by the legend of their series, which may use labels as `{{shard}}`.
        help: shown on the panel's corner: what is usual, and what to look at next.
    """

    question: str
    unit: Unit
    lines: dict[str, str]
    help: str


def _quantile(share: float, metric: str, *by: str) -> str:
    labels = ", ".join(("le", *by))
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


PANELS = (
    Panel(
        "Do deliveries come in, and how are they answered?",
        "reqps",
        {"{{outcome}}": _rate("slotwire_deliveries_total", "outcome")},
        "accepted is 200. unavailable is 503: Calendly retries for 24 h. refused and rejected are mostly strangers.",
    ),
    Panel(
        "How long does Calendly wait for an answer?",
        "s",
        {
            "99 %": _quantile(0.99, "slotwire_delivery_seconds"),
            "commit, 99 %": _quantile(0.99, "slotwire_commit_seconds"),
        },
        "Calendly waits 15 s, serve answers 503 after 8.",
    ),
    Panel(
        "How long from the POST to the handler?",
        "s",
        {
            "{{agent}}, half": _quantile(0.5, "slotwire_post_to_handler_seconds", "agent"),
            "{{agent}}, 99 %": _quantile(0.99, "slotwire_post_to_handler_seconds", "agent"),
        },
        "Webhooks only. If it grows, look at the next four panels in their order.",
    ),
    Panel(
        "Is anything accepted and not written?",
        "s",
        {"shard {{shard}}": "max by (shard) (slotwire_unwritten_seconds)"},
        "Age of the oldest. Missing: no relay leads.",
    ),
    Panel(
        "How much of the room for it is used?",
        "bytes",
        {
            "shard {{shard}}": "max by (shard) (slotwire_unwritten_bytes)",
            "limit": "min(slotwire_unwritten_limit_bytes)",
        },
        "Past SLOTWIRE_HTTP__MAX_UNWRITTEN_BYTES deliveries are answered 503.",
    ),
    Panel(
        "Is anything written and not in Kafka?",
        "s",
        {"shard {{shard}}": "max by (shard) (slotwire_relay_lag_seconds)"},
        "Age of the oldest event that is not published.",
    ),
    Panel(
        "Why does the relay hold?",
        "short",
        {"{{reason}}": "max by (reason) (slotwire_relay_holding)"},
        "1 while it holds. Each reason has its runbook.",
    ),
    Panel(
        "Do agents keep up?",
        "short",
        {"{{agent}}": "sum by (agent) (slotwire_consumer_lag_records)"},
        "Records that are not settled.",
    ),
    Panel(
        "What became of events at the agents?",
        "reqps",
        {"{{agent}} {{outcome}}": _rate("slotwire_handled_total", "agent, outcome")},
        "retried is a failed run that is tried again; dead_lettered was given up.",
    ),
    Panel(
        "Does scheduled work begin in time?",
        "s",
        {
            "{{agent}}, 99 %": _quantile(0.99, "slotwire_firing_late_seconds", "agent"),
            "{{agent}} {{schedule}}, not fired": "max by (agent, schedule) (slotwire_schedule_late_seconds) > 0",
        },
        "How late first runs begin, usually below 2 s; and for how long work is due that no process has fired.",
    ),
    Panel(
        "Do receivers and readers take what agents send?",
        "reqps",
        {
            "{{purpose}} {{outcome}}": _rate("slotwire_outgoing_requests_total", "purpose, outcome"),
            "digest by {{way}} {{outcome}}": _rate("slotwire_digests_total", "way, outcome"),
        },
        "2xx and sent are usual. A word in place of a status: no answer came, or the address was refused.",
    ),
    Panel(
        "What became of the calls of agents of MCP?",
        "reqps",
        {
            "calls {{result}}": _rate("slotwire_mcp_calls_total", "result"),
            "{{what}} {{status}}": 'sum by (what, status) (rate(slotwire_mcp_requests_total{status=~"[45].."}'
            "[$__rate_interval]))",
        },
        "refused is an answer to the agent; failed is ours or Calendly's. 401 of token: a secret that is none.",
    ),
    Panel(
        "Who is silent, and is it unusual?",
        "percentunit",
        {"{{organization}}": "bottomk(10, min by (organization) (slotwire_silence_probability))"},
        "How usual so long a silence is, by the organization's own hours of the week. Below 0.1 % is an alarm.",
    ),
    Panel(
        "When did each organization's last webhook come?",
        "s",
        {"{{organization}}": "topk(10, time() - max by (organization) (slotwire_last_delivery_timestamp_seconds))"},
        "The ten that are silent for longest.",
    ),
    Panel(
        "Is what was missed fetched?",
        "short",
        {
            "open: {{cause}}": "sum by (cause) (slotwire_holes_open)",
            "recovered: {{type}}": "sum by (type) (increase(slotwire_hole_events_recovered_total[1h]))",
        },
        "Holes that are not filled yet, and events that fetches have written in the last hour.",
    ),
    Panel(
        "What waits for a person?",
        "short",
        {
            "quarantine: {{reason}}": "sum by (reason) (slotwire_quarantine_waiting)",
            "parked events": "max(slotwire_parked_events)",
            "subscriptions unserved": "max(slotwire_subscriptions_unserved)",
            "subscriptions: {{finding}}": 'sum by (finding) (slotwire_subscription_findings{finding!="replacing"})',
            "connections {{state}}": 'sum by (state) (slotwire_connections{state!="active"})',
            "erasures": "max(slotwire_erasures_open)",
        },
        "All of it should be 0.",
    ),
    Panel(
        "Does Calendly answer us?",
        "reqps",
        {"{{status}}": _rate("slotwire_calendly_calls_total", "status")},
        "Calls of control by status; none: no answer.",
    ),
    Panel(
        "How near are the limits of connections?",
        "percentunit",
        {
            "Postgres": "max(slotwire_postgres_connections) / max(slotwire_postgres_connections_limit)",
            "listener {{instance}}": "slotwire_listener_connections / slotwire_listener_connections_limit",
            "pool {{instance}}": 'sum by (instance) (slotwire_pool_connections{state="used"})'
            " / sum by (instance) (slotwire_pool_connections_limit)",
            "files {{instance}}": "process_open_fds / process_max_fds",
        },
        "Used share of each limit.",
    ),
    Panel(
        "What do the processes cost?",
        "short",
        {
            "{{process}} {{instance}}": "rate(process_cpu_seconds_total[$__rate_interval])"
            " * on (instance) group_left (process) slotwire_build_info"
        },
        "CPU seconds a second. process_resident_memory_bytes has the memory.",
    ),
)
"""The panels, three in a row."""


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it; it asks for the data source."""
    return {
        "title": "Slotwire",
        "uid": "slotwire",
        "tags": ["slotwire"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "templating": {
            "list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def dashboard_file() -> dict[str, str]:
    """Return the dashboard's file by its path from the root."""
    text = json.dumps(dashboard(), indent=2, ensure_ascii=False)
    return {"k8s/monitoring/dashboard.json": f"{text}\n"}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    row, column = divmod(number, ACROSS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.question,
        "description": panel.help,
        "datasource": source,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": row * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": expression, "legendFormat": legend}
            for place, (legend, expression) in enumerate(panel.lines.items())
        ],
    }
