"""Grafana's dashboard: what Grafana needs of a panel is there, and nothing lies on something else."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from tools.generate.dashboard import PANELS
from tools.sources import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "k8s" / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
COLUMNS = 24
"""Of Grafana's grid."""


def test_grafana_finds_what_it_imports() -> None:
    """Title, identifier, schema and the variable of the data source are there, and every panel has an id of its own."""
    assert DASHBOARD["uid"] == "slotwire"
    assert DASHBOARD["schemaVersion"] >= 36
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"]) == len(PANELS)


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: str(panel["id"]))
def test_a_panel_asks_a_question_and_has_its_lines(panel: dict[str, Any]) -> None:
    """Each has a question, words about what is usual, and expressions for the chosen data source."""
    assert panel["type"] == "timeseries"
    assert panel["title"].endswith("?")
    assert panel["description"].endswith(".")
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(set(references)) == len(references)
    for target in (panel, *panel["targets"]):
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


def test_no_panel_lies_on_another() -> None:
    """The panels fit into the grid and do not overlap."""
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
