"""The events a payload becomes when it is the first we hear of its subject: `<scenario>.expected.json`.

`python -m tools.expected` writes the files anew; read the difference before you commit it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from slotwire.ingest.log.batch import Batch
from slotwire.ingest.log.delivery import Delivery, Origin, Tenant
from slotwire.ingest.log.normalize import normalize
from slotwire.schemas.codec import encode_data, format_time
from tools.sources import ROOT

FOLDER = ROOT / "tests" / "payloads"
_ARRIVED = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_NOBODY = UUID(int=0)
_TENANT = Tenant("https://api.calendly.com/organizations/ORGANIZATION", "ORGANIZATION", None)


def scenarios() -> list[Path]:
    """Return every payload, by event and scenario."""
    return sorted(path for path in FOLDER.glob("*/*.json") if not path.name.endswith(".expected.json"))


def expected_file(scenario: Path) -> Path:
    """Return the file beside a payload that holds its events."""
    return scenario.with_suffix(".expected.json")


def outcome_of(*bodies: bytes) -> dict[str, Any]:
    """Take bodies through normalize and join, the first we hear, and return their events or why one is quarantined."""
    deliveries = [_accepted(body, position) for position, body in enumerate(bodies, start=1)]
    batch = Batch([fact for delivery in deliveries for fact in normalize(delivery)])
    for result in batch.results:
        if result.reason is not None:
            return {"quarantined": result.reason, "detail": result.detail}
    return {
        "events": [
            {
                "id": str(event.id),
                "type": event.data.type,
                "subject": event.subject,
                "key": event.key,
                "time": format_time(event.time),
                "inferred": event.inferred,
                "data": orjson.loads(encode_data(event.data)),
            }
            for event in batch.events
        ]
    }


def _accepted(body: bytes, position: int) -> Delivery:
    origin, times = Origin.WEBHOOK, (_ARRIVED, _ARRIVED)
    return Delivery(position, position, _NOBODY, _TENANT, origin, origin, False, "", *times, None, body)


def written(outcome: dict[str, Any]) -> bytes:
    """Write an outcome as its file holds it."""
    return orjson.dumps(outcome, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    for scenario in scenarios():
        expected_file(scenario).write_bytes(written(outcome_of(scenario.read_bytes())))
