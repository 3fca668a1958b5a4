"""Updates of a resource: one event for each thing said, however often, in which order and in which writing it comes."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slotwire.ingest.log.normalize import normalize
from slotwire.schemas.ids import content_digest
from tests.support.fuzzing import shuffled
from tests.support.log_model import Model
from tests.support.writing import accepted
from tools.expected import FOLDER

RECAPS = [(FOLDER / f"meeting_recap.updated/{name}.json").read_bytes() for name in ("summary", "share_link_added")]
URI = "https://api.calendly.com/resources/R"
UPDATES: dict[str, list[dict[str, Any]]] = {
    "meeting_recap.updated": [orjson.loads(body)["payload"] for body in RECAPS],
    "contact.updated": [{"uri": URI, "name": "Ada"}, {"uri": URI, "name": "Ada", "size": 2, "tags": ["a", None]}],
    "event_type.updated": [
        {"uri": URI, "updated_at": "2026-11-23T09:00:00.000000Z", "duration": minutes, "slug": None}
        for minutes in (15, 30)
    ],
}
"""Two updates of each resource, whose `updated_at` does not move or is missing."""


def rewritten(value: Any, chance: random.Random) -> Any:
    """Write a payload in other words: numbers and times with other digits, nulls there or not, keys in any order."""
    match value:
        case dict():
            told = {name: rewritten(item, chance) for name, item in value.items() if item is not None}
            return shuffled(told | ({"never_there": None} if chance.random() < 0.5 else {}), chance)
        case list():
            return [rewritten(item, chance) for item in value]
        case bool():
            return value
        case int():
            return chance.choice([value, float(value)])
        case str() if value.endswith("Z") and value[:2] == "20":
            return chance.choice([value, value.removesuffix("Z") + "+00:00", value.replace(".000000Z", "Z")])
        case _:
            return value


@pytest.mark.parametrize("event", UPDATES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_two_updates_of_one_time_are_two_events(event: str, data: st.DataObject) -> None:
    """In any order, in any batches and as often as they come: two events, never one and never three."""
    chance = random.Random(data.draw(st.integers(0, 2**32)))  # noqa: S311 - no secret
    order = [*data.draw(st.permutations([0, 1])), *data.draw(st.lists(st.integers(0, 1), max_size=5))]
    model = Model()
    written: set[Any] = set()
    for position, which in enumerate(data.draw(st.permutations(order)), start=1):
        # The second is the same, or another subscription's.
        told = {"event": event, "created_at": f"2026-11-23T09:00:0{data.draw(st.integers(0, 1))}Z"}
        body = orjson.dumps({**told, "payload": rewritten(UPDATES[event][which], chance)})
        batch = model.tell(normalize(accepted(body, position=position)))
        [result] = batch.results
        written.add((which, result.event_id))
    assert len(written) == len(model.events) == 2


def test_the_digest_is_the_same_for_ever() -> None:
    """Any client can compute it, whichever fields its version knows; it is compared with one that was written down."""
    payload = {"share_url": None, "uri": URI, "size": 2.0, "at": "2026-11-23T10:00:00.000000+01:00"}
    text = f'{{"at":"2026-11-23T09:00:00+00:00","size":2,"uri":"{URI}"}}'
    assert content_digest(payload) == hashlib.sha256(text.encode()).hexdigest()
    assert content_digest(payload) == "62b812c03696419b58ea3ea31fa796f98e1a5f082ed2eefcae00472f96709c45"
