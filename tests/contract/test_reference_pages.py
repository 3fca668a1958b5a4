"""The pages written by hand name everything the code has: types, topics, headers, states, reasons."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from slotwire.ingest.relay.status import REASONS
from slotwire.schemas.codec import Attributes, encode_headers
from slotwire.schemas.events import EVENT_CLASSES
from slotwire.schemas.topics import TOPICS
from tools.documents import ROOT

REFERENCE = ROOT / "docs" / "reference"
_CHECK = re.compile(r"CONSTRAINT (\w+) CHECK \((\w+) IN \(([^)]*)\)\)")


def _page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_type_and_topic_is_listed() -> None:
    """Each published type, its class or its siblings', and each topic stand on the events' page."""
    page = _page(REFERENCE / "events.md")
    missing = [cls.type for cls in EVENT_CLASSES if f"`{cls.type}`" not in page]
    missing += [topic.name for topic in TOPICS if f"`{topic.name}`" not in page]
    assert not missing


def test_every_header_is_listed() -> None:
    """Each header that a record can carry stands in the table of the events' page, and no other."""
    now = datetime.now(UTC)
    full = Attributes(
        id=uuid4(),
        type="t",
        organization="o",
        subject="s",
        time=now,
        key="k",
        sequence=1,
        recorded_time=now,
        traceparent="00",
        origin="webhook",
        inferred=True,
        replay="r",
        tenant="t",
        dataref="/",
    )
    sent = {name for name, _ in encode_headers(full)}
    table = _page(REFERENCE / "events.md").partition("## Headers")[2].partition("A dead letter has")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == sent


def test_every_state_is_drawn() -> None:
    """Each constrained state of a booking, a subscription and a delivery stands on the states' page, by constraint."""
    sql = "".join(_page(path) for path in sorted((ROOT / "ingest/sql/migrations").glob("*.sql")))
    page = _page(REFERENCE / "states.md")
    found = {
        name: re.findall(r"'(\w+)'", values)
        for name, column, values in _CHECK.findall(sql)
        if column in {"state", "outcome"}
    }
    assert {"bookings_state", "subscriptions_state", "results_outcome"} <= found.keys()
    missing = [item for name, values in found.items() for item in (name, *values) if f"`{item}`" not in page]
    assert not missing


def test_every_reason_to_hold_has_a_runbook() -> None:
    """Each reason for which the relay can hold leads to a page that says what to do."""
    page = _page(ROOT / "docs/runbooks/README.md")
    assert not [reason for reason in REASONS if f'slotwire_relay_holding{{reason="{reason}"}}' not in page]


def test_every_reason_for_quarantine_is_explained() -> None:
    """Each reason for which a delivery can be quarantined stands in the runbook."""
    nodes = [
        node
        for name in ("normalize", "drift", "join", "batch", "writer")
        for node in ast.walk(ast.parse(_page(ROOT / f"ingest/log/{name}.py")))
    ]
    reasons = {
        argument.value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for argument in {
            "CannotNormalize": node.args[:1],
            "_refuse": node.args[:1],
            "QuarantineFact": node.args[1:2],
        }.get(node.func.id, [])
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    # The writer blames a delivery first, and quarantines it for that when it is alone.
    reasons |= {
        str(ast.literal_eval(found.value.elts[0]))
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.name == "_blamed"
        for found in ast.walk(node)
        if isinstance(found, ast.Return) and isinstance(found.value, ast.Tuple)
    }
    assert {"unknown_event", "too_many_toggles", "refused_by_database", "defect"} <= reasons
    page = _page(ROOT / "docs/runbooks/quarantine-growing.md")
    assert not [reason for reason in reasons if f"`{reason}`" not in page]
