"""Every payload scenario becomes the events that stand beside it, and its data survives its own strict model."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from slotwire.ingest.log.normalize import KNOWN_EVENTS
from slotwire.schemas.events import BY_TYPE
from tools.expected import expected_file, outcome_of, scenarios, written


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_payload_becomes_its_expected_events(scenario: Path) -> None:
    """Type, id, subject, key, time and data are as written down; a change of any is seen in review."""
    outcome = outcome_of(scenario.read_bytes())
    assert written(outcome) == expected_file(scenario).read_bytes()


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_nothing_of_a_payload_is_lost(scenario: Path) -> None:
    """Every field that was sent is in the data, in its place or under `extra` beside it; the model reads it back."""
    sent = orjson.loads(scenario.read_bytes())["payload"]
    for event in outcome_of(scenario.read_bytes())["events"]:
        data = event["data"]
        assert BY_TYPE[event["type"]].model_validate(data) is not None
        _assert_kept(sent, data, "payload")


def _assert_kept(sent: object, kept: object, where: str) -> None:
    if isinstance(sent, dict):
        assert isinstance(kept, dict), where
        for name, value in sent.items():
            extra = kept.get("extra")
            drifted = extra if isinstance(extra, dict) and name in extra else kept
            _assert_kept(value, drifted[name], f"{where}.{name}")
    elif isinstance(sent, list):
        assert isinstance(kept, list), where
        for position, (value, found) in enumerate(zip(sent, kept, strict=True)):
            _assert_kept(value, found, f"{where}[{position}]")
    elif sent != kept and sent != str(kept):  # a number may come as text
        _assert_same_time(sent, kept, where)


def _assert_same_time(sent: object, kept: object, where: str) -> None:
    """Times may be written with another number of digits, nothing else may change."""
    from datetime import datetime

    assert isinstance(sent, str), where
    assert isinstance(kept, str), where
    assert datetime.fromisoformat(sent) == datetime.fromisoformat(kept), where


def test_there_is_a_scenario_for_every_event() -> None:
    """Each of Calendly's events that becomes one of ours has payloads, and no payload is of another event."""
    assert {path.parent.name for path in scenarios()} == KNOWN_EVENTS
