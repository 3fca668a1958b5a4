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
from slotwire.ingest.log.normalize import normalize
from slotwire.ingest.receive.verify import Tenant, verified_before
from slotwire.schemas.codec import encode_data, format_time
from tools.sources import ROOT

FOLDER = ROOT / "tests" / "payloads"
_ARRIVED = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_NOBODY = UUID(int=0)
_TENANT = Tenant("https://api.calendly.com/organizations/ORGANIZATION", "ORGANIZATION", 0, None, _NOBODY)


def scenarios() -> list[Path]:
    """Return every payload, by event and scenario."""
    return sorted(path for path in FOLDER.glob("*/*.json") if not path.name.endswith(".expected.json"))


def expected_file(scenario: Path) -> Path:
    """Return the file beside a payload that holds its events."""
    return scenario.with_suffix(".expected.json")


def outcome_of(*bodies: bytes) -> dict[str, Any]:
    """Take bodies through normalize and join, the first we hear, and return their events or why one is quarantined."""
    deliveries = [
        verified_before(_NOBODY, _TENANT, body, received_at=_ARRIVED, signed_at=_ARRIVED, traceparent=None)
        for body in bodies
    ]
    batch = Batch([normalize(delivery) for delivery in deliveries], {})
    if (quarantined := next(filter(None, batch.quarantined), None)) is not None:
        return {"quarantined": quarantined.reason, "detail": quarantined.detail}
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


def written(outcome: dict[str, Any]) -> bytes:
    """Write an outcome as its file holds it."""
    return orjson.dumps(outcome, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    for scenario in scenarios():
        expected_file(scenario).write_bytes(written(outcome_of(scenario.read_bytes())))
